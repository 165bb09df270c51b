"""A training step from the cache beside one without a teacher and one with a teacher alongside.

    python tests/benchmarks/bench_train.py                         about a minute
    python tests/benchmarks/bench_train.py --steps 60

It asserts nothing. The student is the demo's, the teacher has some ten times its parameters (how
many exactly is printed), weights are random and audio is noise: what a step costs does not depend
on them. All trainers see the same utterances in the same steps and take turns step by step, so
that what else the machine does falls on all of them; figures are medians over steps. The live
teacher hears the batch as the student does, features included, and its lattice is collapsed in
memory; nothing of it is packed or read. Waiting is that of a run by itself, from the first step's
end on.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch
from rows import Row, arguments, publish

from kdcache.corpus import load_tokenizer, train_sentencepiece, write_manifest
from kdcache.demo.recipe import load_recipe
from kdcache.extract.config import ExtractConfig
from kdcache.extract.driver import prepare
from kdcache.extract.targets import bind_targets
from kdcache.extract.worker import UnitWorker
from kdcache.loss import collapse_lattice
from kdcache.student import build_student, load_student, save_student
from kdcache.teacher import load_teacher
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    import argparse

    from kdcache.batch import Batch
    from kdcache.student import StudentOutput, TransducerStudent

RATE = 16_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEACHER = {"hidden": 96, "layers": 4, "joint": 96, "subsampling_channels": 32, "dropout": 0}


class LiveTrainer(Trainer):
    """Asks a teacher in the process for what the others read."""

    teacher: TransducerStudent

    def _terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            said: StudentOutput = self.teacher(batch)
            lengths = (said.frames_B, batch.label_lengths_B)
            logits = said.lattice_logits()
            target = collapse_lattice(logits, batch.labels_BU, *lengths, self.teacher.blank)
        return super()._terms(replace(batch, targets={"lattice": target}))


def parse_args() -> argparse.Namespace:
    """Sizes; the defaults take a minute."""
    parser = arguments(__doc__)
    parser.add_argument("--utterances", type=int, default=64)
    parser.add_argument("--steps", type=int, default=24, help="of each trainer")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def write_corpus(folder: Path, count: int) -> Path:
    """Noise of three to six seconds beside as many digits: the manifest; tokenizer beside it."""
    random = np.random.default_rng(0)
    utterances = []
    for index in range(count):
        seconds = random.uniform(3, 6)
        samples = random.normal(0, 0.1, int(seconds * RATE)).astype(np.float32)
        path = folder / f"u{index:03d}.flac"
        soundfile.write(path, samples, RATE)
        text = " ".join(random.choice(WORDS, int(1.5 * seconds)))
        utterances.append(Utterance(path.stem, AudioRef(str(path)), text))
    texts = [utterance.text for utterance in utterances]
    train_sentencepiece(texts, 20, "char").save(folder / "tokenizer")
    write_manifest(folder / "corpus.jsonl", utterances)
    return folder / "corpus.jsonl"


def write_cache(folder: Path, corpus: Path, teacher: Path, target: dict[str, Any]) -> Path:
    """What ``kdcache extract`` makes, in this process."""
    config = ExtractConfig.model_validate(
        {
            "teacher": {"path": teacher, "device": "cpu"},
            "corpus": corpus,
            "cache": {"path": str(folder)},
            "targets": [target],
        }
    )
    ready, loaded = prepare(config), load_teacher(teacher)
    worker = UnitWorker(loaded, bind_targets(ready.spec.targets, loaded.spec))
    for unit in ready.plan.units:
        result = worker.run(unit)
        ready.writer.commit(unit.key, result.packed, result.failed, "bench")
    return folder


def settings_of(folder: Path, name: str, cache: Path, steps: int, beta: float) -> TrainSettings:
    """The demo's student and its loss, with or without what the teacher says."""
    recipe = load_recipe("synthesised").student
    loss = recipe.loss.model_copy(update={"lattice_kl": beta})
    return TrainSettings.model_validate(
        {
            "out": folder / name,
            "data": {"cache": cache, "corpus": folder / "corpus.jsonl", "keep_in_memory": True},
            "student": recipe.student,
            "loss": loss,
            "optim": recipe.optim.model_copy(update={"steps": steps}),
            "batch_seconds": recipe.batch_seconds,
            "checkpoint_every": steps,
        }
    )


def take_turns(trainers: dict[str, Trainer], steps: int) -> dict[str, list[float]]:
    """Seconds of each step of each trainer; all do the first step, then all the second."""
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for trainer in trainers.values():
        trainer._began = time.monotonic()
    while len(next(iter(seconds.values()))) < steps:
        streams = [trainer.stream.steps() for trainer in trainers.values()]
        for several in zip(*streams, strict=True):
            for (name, trainer), step in zip(trainers.items(), several, strict=True):
                began = time.perf_counter()
                trainer._train_step(step)
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over steps of the same utterances; the first, which warms up, is left out."""
    pairs = list(zip(seconds[slow], seconds[fast], strict=True))[1:]
    return statistics.median(mine / other for mine, other in pairs)


def stall(trainer: Trainer, out: Path) -> float:
    """Share of a run's time that it waits for batches."""
    trainer.run()
    first, *_, last = read_metrics(out)
    waiting, whole = (last[name] - first[name] for name in ("waiting", "seconds"))
    return float(waiting / whole)


def measure(folder: Path, args: argparse.Namespace) -> list[Row]:
    """Write corpus, teacher and caches; train on them."""
    corpus = write_corpus(folder, args.utterances)
    tokenizer = load_tokenizer(folder / "tokenizer")
    recipe = load_recipe("synthesised")
    big = build_student(recipe.teacher.student.model_copy(update=TEACHER), tokenizer)
    path = save_student(big, folder / "teacher")
    whole = write_cache(folder / "whole", corpus, path, dict(recipe.targets[0]))
    band = write_cache(folder / "band", corpus, path, {"kind": "lattice", "width": 5})

    beta, steps = recipe.student.loss.lattice_kl, args.steps

    def trainer(name: str, cache: Path, beta: float, kind: type[Trainer] = Trainer) -> Trainer:
        return kind(settings_of(folder, name, cache, steps, beta), World())

    live = trainer("live", whole, beta, LiveTrainer)
    assert isinstance(live, LiveTrainer)
    live.teacher = load_student(path)
    trainers = {
        "without": trainer("without", whole, 0.0),
        "whole": trainer("whole", whole, beta),
        "band": trainer("band", band, beta),
        "live": live,
    }
    sizes = [sum(p.numel() for p in m.parameters()) for m in (big, live.student)]
    print(f"teacher {sizes[0]:,} parameters, student {sizes[1]:,}, {sizes[0] / sizes[1]:.1f} ×")
    seconds = take_turns(trainers, steps)
    step = statistics.median(seconds["whole"])
    waiting = stall(trainer("stall", whole, beta), folder / "stall")
    nokd, times = "step without teacher", f"live teacher of {sizes[0] / sizes[1]:.0f} × the student"
    return [
        Row("train.step", step, "s"),
        Row("train.step_vs_nokd", ratio(seconds, "whole", "without"), "×", nokd),
        Row("train.step_vs_nokd.band", ratio(seconds, "band", "without"), "×", nokd),
        Row("train.step_vs_live", ratio(seconds, "live", "whole"), "×", times),
        Row("train.stall", waiting, "share of time"),
    ]


def main() -> None:
    """Measure and publish."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"demo student, {args.threads} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        publish(measure(Path(folder), args), args.json)


if __name__ == "__main__":
    main()
