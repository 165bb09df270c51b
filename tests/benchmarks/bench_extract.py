"""How much of its teacher's speed an extraction keeps, and where the time goes.

    python tests/benchmarks/bench_extract.py                       about four minutes
    python tests/benchmarks/bench_extract.py --units 6 --rounds 3  about two; turns differ by 5 %

It asserts nothing. The teacher has some thirty times the demo's parameters, so that it takes nine
tenths of the time, and random weights; audio is noise: what a batch costs does not depend on them.
Its lattices are kept as the demo keeps them.

``extract.efficiency`` compares ``run_extract``, with one Ray actor whose teacher has one thread,
from the start of the first batch in the teacher to the end of the last one, with a bare loop of the
same teacher's forward over the same batches in this process. What packing and writing the last
batches takes is no part of it, nor is the start, which is ``extract.start``. They take turns, and
the ratio is the median of the turns'. Of both, those seconds are left out in which the teacher's
thread waited for a core that others had (``timed_teacher.py``); with them it is
``extract.efficiency.wall``, which on a machine of two cores and no other work is the same.

``extract.share.*`` are parts of the seconds that all threads compute, taken in one more pass in
this process, by the very code that actors run.
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
from timed_teacher import ADAPTER, Moment, Span, take_spans

from kdcache.corpus import load_tokenizer, read_manifest, train_sentencepiece, write_manifest
from kdcache.corpus.audio import load_audio
from kdcache.demo.recipe import load_recipe
from kdcache.extract import ExtractConfig, prepare, run_extract
from kdcache.extract.gauge import StageSeconds
from kdcache.extract.plan import plan_units
from kdcache.extract.targets import bind_targets
from kdcache.extract.worker import UnitWorker
from kdcache.quiet import quiet_transformers
from kdcache.session import ray_session
from kdcache.student import build_student, save_student
from kdcache.student.settings import StudentSettings
from kdcache.teacher import load_teacher
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from kdcache.teacher import Teacher

RATE = 16_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UNIT, BATCH_SECONDS = 16, 30.0


def parse_args() -> argparse.Namespace:
    """Sizes; the defaults take four minutes."""
    parser = arguments(__doc__)
    parser.add_argument("--hidden", type=int, default=512, help="width of the teacher")
    parser.add_argument("--units", type=int, default=12, help=f"of {UNIT} utterances")
    parser.add_argument("--rounds", type=int, default=5, help="extractions, and bare loops")
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
        utterances.append(Utterance(path.stem, AudioRef(str(path), 0.0, len(samples) / RATE), text))
    texts = [utterance.text for utterance in utterances]
    train_sentencepiece(texts, 20, "char").save(folder / "tokenizer")
    write_manifest(folder / "corpus.jsonl", utterances)
    return folder / "corpus.jsonl"


def write_teacher(folder: Path, hidden: int) -> Path:
    """The demo's teacher, made wider."""
    demo = load_recipe("synthesised").teacher.student
    tokenizer = load_tokenizer(folder / "tokenizer")
    small, large = (
        build_student(StudentSettings.model_validate(demo.model_dump() | changes), tokenizer)
        for changes in ({}, {"hidden": hidden})
    )
    sizes = [sum(p.numel() for p in model.parameters()) for model in (small, large)]
    print(f"teacher of {sizes[1]:,} parameters, {sizes[1] / sizes[0]:.1f} × the demo's")
    return save_student(large, folder / "teacher")


def config_of(folder: Path, name: str) -> ExtractConfig:
    """An extraction by one actor with one arithmetic thread."""
    settings: dict[str, Any] = {
        "teacher": {"path": folder / "teacher", "device": "cpu", "adapter": ADAPTER},
        "corpus": folder / "corpus.jsonl",
        "cache": {"path": str(folder / name)},
        "targets": list(load_recipe("synthesised").targets),
        "batch_seconds": BATCH_SECONDS,
        "unit_utterances": UNIT,
        "actors": 1,
    }
    return ExtractConfig.model_validate(settings)


def extract(config: ExtractConfig) -> tuple[Span, float]:
    """The teacher's thread from its first batch to its last, and the seconds before."""
    began = time.monotonic()
    report = run_extract(config)
    assert report.complete, report.lines()
    spans = take_spans(config.teacher.path)
    return Span(spans[0].start, spans[-1].end), spans[0].start.wall - began


def batches_of(config: ExtractConfig, teacher: Teacher) -> list[tuple[list[Any], list[Any]]]:
    """Samples and tokens of the same batches."""
    corpus = read_manifest(config.manifests[0])
    plan = plan_units(
        corpus,
        spec="",
        unit_utterances=config.unit_utterances,
        batch_seconds=config.batch_seconds,
    )
    return [
        (
            [load_audio(utterance.audio, RATE) for utterance in batch],
            [teacher.tokenizer.encode(utterance.text) for utterance in batch],
        )
        for unit in plan.units
        for batch in unit.batches
    ]


def bare(teacher: Teacher, batches: Sequence[tuple[list[Any], list[Any]]]) -> Span:
    """A loop of forwards alone."""
    start = Moment.now()
    for samples, tokens in batches:
        teacher.forward(samples, tokens)
    return Span(start, Moment.now())


def shares(config: ExtractConfig) -> dict[str, float]:
    """Of the seconds that threads compute, those of each stage."""
    ready, settings = prepare(config), config.teacher
    teacher = load_teacher(settings.path)
    targets = bind_targets(ready.spec.targets, teacher.spec)
    worker = UnitWorker(teacher, targets, clock=time.thread_time)
    total = StageSeconds()
    for unit in ready.plan.units:
        result = worker.run(unit)
        began = time.thread_time()
        ready.writer.commit(unit.key, result.packed, result.failed, "bench")
        total += replace(result.stages, write=time.thread_time() - began)
    return total.shares()


def rows_of(runs: list[Span], loops: list[Span], starts: list[float], audio: float) -> list[Row]:
    """What the extractions and the bare loops say."""

    def ratio(seconds: Callable[[Span], float]) -> float:
        return statistics.median(seconds(a) / seconds(b) for a, b in zip(loops, runs, strict=True))

    own, wall = ratio(lambda span: span.own), ratio(lambda span: span.wall)
    speed, loop = audio / statistics.median(run.own for run in runs), "bare loop of forwards"
    return [
        Row("extract.speed", speed, "s of audio/s"),
        Row("extract.efficiency", own, "share", loop, own),
        Row("extract.efficiency.wall", wall, "share", loop, wall),
        Row("extract.start", statistics.median(starts), "s"),
    ]


def main() -> None:
    """Measure and publish."""
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"1 thread, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name, quiet_transformers():
        folder = Path(name)
        write_corpus(folder, args.units * UNIT)
        teacher = load_teacher(write_teacher(folder, args.hidden))
        batches = batches_of(config_of(folder, "none"), teacher)
        audio = sum(len(row) for samples, _ in batches for row in samples) / RATE
        runs, starts, loops = [], [], []
        with ray_session(None, {"num_cpus": 1, "object_store_memory": 100_000_000}):
            for turn in range(args.rounds):
                loops.append(bare(teacher, batches))
                run, start = extract(config_of(folder, f"cache{turn}"))
                runs.append(run)
                starts.append(start)
                print(
                    f"{audio:.0f} s of audio: {run.own:.1f} s beside {loops[-1].own:.1f}; "
                    f"by the wall {run.wall:.1f} beside {loops[-1].wall:.1f}"
                )
        parts = shares(config_of(folder, "shares"))
        rows = rows_of(runs, loops, starts, audio)
        rows += [Row(f"extract.share.{stage}", part, "share") for stage, part in parts.items()]
        publish(rows, args.json)


if __name__ == "__main__":
    main()
