"""A training step from the cache beside one without a teacher and one with a teacher alongside.

    python tests/benchmarks/bench_train.py                         about a minute
    python tests/benchmarks/bench_train.py --steps 60

It asserts nothing. Weights are random and audio is noise: what a step costs does not depend on
them. Trainers that are compared see the same utterances in the same steps and take turns step by
step; a ratio is the median over steps of seconds that the training thread has computed, so that
what else the machine does matters little. Reading ahead is another thread's work: whether training
waits for it says ``train.stall``, of a run of the demo's student by itself, from the first step's
end on.

With and without a teacher's word it is the demo's student. Beside a live teacher it is one whose
work is mostly its encoder's, as with all models of use, and the teacher has ten times its
parameters (how many exactly is printed). The live teacher hears the batch as the student does,
features included; its lattice is collapsed in memory, and nothing is packed or read.
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
from kdcache.quiet import quiet_transformers
from kdcache.student import build_student, save_student
from kdcache.student.settings import StudentSettings
from kdcache.teacher import load_teacher
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from kdcache.batch import Batch
    from kdcache.stream.stream import Step
    from kdcache.student import StudentOutput, TransducerStudent

RATE = 16_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEACHER = {"hidden": 96, "layers": 4, "joint": 96, "dropout": 0}
LIVE_STUDENT = {"hidden": 192, "layers": 6, "joint": 192, "dropout": 0, "ctc_head": True}
LIVE_TEACHER = {"hidden": 512, "layers": 9, "heads": 8, "joint": 512, "subsampling_channels": 64}
LIVE_SECONDS, LIVE_STEPS = 30.0, 6


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
    parser.add_argument("--steps", type=int, default=24, help="with and without a teacher's word")
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


def write_caches(folder: Path, utterances: int) -> None:
    """Corpus, tokenizer, a random teacher, and its lattices whole and in a band."""
    corpus = write_corpus(folder, utterances)
    tokenizer = load_tokenizer(folder / "tokenizer")
    teacher = build_student(StudentSettings(**TEACHER), tokenizer)  # type: ignore[arg-type]
    path = save_student(teacher, folder / "teacher")
    for name, width in (("whole", {}), ("band", {"width": 5})):
        write_cache(folder / name, corpus, path, {"kind": "lattice", **width})


def write_cache(folder: Path, corpus: Path, teacher: Path, target: dict[str, Any]) -> None:
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


def settings_of(folder: Path, name: str, cache: str, steps: int, **changes: Any) -> TrainSettings:
    """The demo's student, as far as nothing else is said."""
    recipe = load_recipe("synthesised").student
    values = {
        "out": folder / name,
        "data": {
            "cache": folder / cache,
            "corpus": folder / "corpus.jsonl",
            "keep_in_memory": True,
        },
        "student": recipe.student,
        "loss": recipe.loss,
        "optim": recipe.optim.model_copy(update={"steps": steps}),
        "batch_seconds": recipe.batch_seconds,
        "checkpoint_every": steps,
    }
    return TrainSettings.model_validate(values | changes)


def take_turns(trainers: dict[str, Trainer], steps: int) -> dict[str, list[float]]:
    """Seconds of each step of each trainer; all do the first step, then all the second."""
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for trainer in trainers.values():
        trainer._began = time.monotonic()
    streams = {name: endless(trainer) for name, trainer in trainers.items()}
    names = list(trainers)
    for turn in range(steps):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            step = next(streams[name])
            began = time.thread_time()
            trainers[name]._train_step(step)
            seconds[name].append(time.thread_time() - began)
    return seconds


def endless(trainer: Trainer) -> Iterator[Step]:
    """Steps of one epoch after the other."""
    while True:
        yield from trainer.stream.steps()


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over steps of the same utterances; the first, which warms up, is left out."""
    pairs = list(zip(seconds[slow], seconds[fast], strict=True))[1:]
    return statistics.median(mine / other for mine, other in pairs)


def with_and_without(folder: Path, steps: int) -> list[Row]:
    """A step that learns from the cache beside one that has the same stream and no teacher."""
    silent = load_recipe("synthesised").student.loss.model_copy(update={"lattice_kl": 0.0})
    kinds: dict[str, dict[str, Any]] = {"without": {"loss": silent}, "whole": {}, "band": {}}
    trainers = {}
    for name, changes in kinds.items():
        cache = "band" if name == "band" else "whole"
        trainers[name] = Trainer(settings_of(folder, name, cache, steps, **changes), World())
    seconds = take_turns(trainers, steps)
    peer = "step without a teacher"
    return [
        Row("train.step", statistics.median(seconds["whole"]), "s"),
        Row("train.step_vs_nokd", ratio(seconds, "whole", "without"), "×", peer),
        Row("train.step_vs_nokd.band", ratio(seconds, "band", "without"), "×", peer),
    ]


def beside_live(folder: Path) -> list[Row]:
    """A step with the teacher in the process beside one from the cache."""
    changes = {"student": LIVE_STUDENT, "batch_seconds": LIVE_SECONDS}
    cached, live = (
        kind(settings_of(folder, kind.__name__, "whole", LIVE_STEPS, **changes), World())
        for kind in (Trainer, LiveTrainer)
    )
    assert isinstance(live, LiveTrainer)
    tokenizer = load_tokenizer(folder / "tokenizer")
    live.teacher = build_student(StudentSettings(**LIVE_TEACHER), tokenizer).eval()  # type: ignore[arg-type]
    sizes = [sum(p.numel() for p in m.parameters()) for m in (live.teacher, live.student)]
    print(f"live teacher {sizes[0]:,} parameters, student {sizes[1]:,}")
    seconds = take_turns({"cached": cached, "live": live}, LIVE_STEPS)
    peer = f"teacher of {sizes[0] / sizes[1]:.1f} × the parameters"
    return [Row("train.step_vs_live", ratio(seconds, "live", "cached"), "×", peer)]


def stall(folder: Path, steps: int) -> Row:
    """Share of a run's time that it waits for batches."""
    Trainer(settings_of(folder, "stall", "whole", steps), World()).run()
    first, *_, last = read_metrics(folder / "stall")
    waiting, whole = (last[name] - first[name] for name in ("waiting", "seconds"))
    return Row("train.stall", waiting / whole, "share of time")


def main() -> None:
    """Measure and publish."""
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"1 thread, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name, quiet_transformers():
        folder = Path(name)
        write_caches(folder, args.utterances)
        rows = [*with_and_without(folder, args.steps), *beside_live(folder)]
        publish([*rows, stall(folder, args.steps)], args.json)


if __name__ == "__main__":
    main()
