"""Train a small teacher on real speech, for benchmarks that want what a teacher really says.

    python tests/benchmarks/real_teacher.py              into build/real, half an hour
    python tests/benchmarks/real_teacher.py --out build/half --ctc-steps 1400 --joint-steps 0

The speech is LibriSpeech's, by 21 speakers, in the folder ``librispeech-opus`` of ``KDCACHE_DATA``
(or ../shared/data): 2.8 hours, of which it is taught the utterances of 4.5 s and less, half an
hour. So little it learns by heart. The second command stops earlier, at a CTC head that is not so
sure of itself, and without a transducer.

The teacher is a transducer with a CTC head at 25 frames a second, as large as the teacher of
``make demo-real``, whose encoder it begins with. That one has heard digits only. So it learns to
spell first, by CTC over characters, then 500 subwords by CTC with what its encoder and head have
become, and at last the transducer, which begins as that head (``kdcache.student.from_ctc``). With
subwords from the start it still said the same few pieces of everything after 1,600 steps; letters
were to be recognised after 800. A transducer whose joint network was random had aligned nothing
after 600 steps. The same command goes on where it was stopped. One thread; nothing is left to
chance but the number of steps, if the minutes are over first.

    build/real/{train,dev,test}.jsonl  {characters,subwords}{,-start,-ctc}/
    build/real/transducer-start/  transducer/student/
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdcache.corpus import load_tokenizer, read_manifest, write_manifest
from kdcache.corpus.tokenizer_training import train_sentencepiece
from kdcache.demo.recipe import load_recipe
from kdcache.student import begin_from_ctc, build_student, load_student, save_student
from kdcache.train.checkpoint import finished_student, list_checkpoints
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.student import TransducerStudent

OUT = Path("build/real")
DATA = Path(os.environ.get("KDCACHE_DATA", "../shared/data")) / "librispeech-opus"
HEARING = Path("build/demo-real/teacher/student")
VOCABULARY = 500
SPLITS = ("train", "dev", "test")


class OutOfTimeError(Exception):
    """The minutes are over; what was learnt is in the last checkpoint."""


def split_manifests(data: Path, out: Path, longest: float) -> None:
    """A manifest a split, by the ``split`` key of the folder's own; ``train`` of short ones."""
    source = data / "manifest.jsonl"
    if not source.is_file():
        sys.exit(f"{source} is not there; set KDCACHE_DATA to the folder of librispeech-opus.")
    lines = map(json.loads, source.read_text(encoding="utf-8").splitlines())
    split = {line["utt"]: line["split"] for line in lines}
    utterances = read_manifest(source)
    for name in SPLITS:
        of_split = [u for u in utterances if split[u.id] == name]
        short = [u for u in of_split if name != "train" or u.duration <= longest]
        write_manifest(out / f"{name}.jsonl", short)


def train_tokenizers(out: Path) -> None:
    """Characters and subwords of the training transcripts."""
    texts = [utterance.text for utterance in read_manifest(out / "train.jsonl")]
    train_sentencepiece(texts, 64, "char").save(out / "characters")
    train_sentencepiece(texts, VOCABULARY).save(out / "subwords")


def begin(source: Path, tokenizer: Path, to: Path) -> Path:
    """A student with the encoder of ``source``, and with its CTC head if that spells."""
    if to.is_dir():
        return to
    torch.manual_seed(0)
    student = build_student(load_recipe("real").teacher.student, load_tokenizer(tokenizer))
    hearing = load_student(source)
    student.model.encoder.load_state_dict(hearing.model.encoder.state_dict())
    letters = {piece: i for i, piece in enumerate(hearing.tokenizer.pieces())}
    if set("etaoin") <= letters.keys():
        take_head(student, hearing, letters)
    return save_student(student, to)


def take_head(
    student: TransducerStudent, hearing: TransducerStudent, letters: dict[str, int]
) -> None:
    """Every subword begins as its first letter, which narrows 500 pieces down to some twenty."""
    assert student.ctc_head is not None
    assert hearing.ctc_head is not None
    first = [piece.strip("\u2581")[:1] for piece in student.tokenizer.pieces()]
    rows = [letters.get(letter, 0) for letter in first] + [hearing.blank]
    with torch.no_grad():
        student.ctc_head.weight.copy_(hearing.ctc_head.weight[rows])
        student.ctc_head.bias.copy_(hearing.ctc_head.bias[rows])


def begin_joint(source: Path, to: Path) -> Path:
    """A transducer that says what the CTC head of ``source`` says, twice as wide as its encoder.

    Half of the joint network then passes on what the head hears; the other is free to learn what
    a sum of what was heard and what was said before cannot tell: that a piece is said again.
    """
    if to.is_dir():
        return to
    torch.manual_seed(0)
    hearing, sizes = load_student(source), load_recipe("real").teacher.student
    wide = sizes.model_copy(update={"joint": 2 * sizes.hidden})
    student = build_student(wide, hearing.tokenizer)
    assert student.ctc_head is not None
    assert hearing.ctc_head is not None
    student.model.encoder.load_state_dict(hearing.model.encoder.state_dict())
    student.ctc_head.load_state_dict(hearing.ctc_head.state_dict())
    begin_from_ctc(student)
    return save_student(student, to)


def settings(out: Path, run: str, tokenizer: str, **more: Any) -> TrainSettings:
    """Of one of the runs."""
    data = {"corpus": out / "train.jsonl", "tokenizer": out / tokenizer, "keep_in_memory": True}
    return TrainSettings.model_validate(
        {
            "out": out / run,
            "data": data,
            "student": load_recipe("real").teacher.student,
            "batch_seconds": 12,
            "augment": False,
            "checkpoint_every": 200,
            **more,
        }
    )


def watcher(out: Path, minutes: float) -> Callable[[dict[str, Any]], None]:
    """Tell each checkpoint's loss and the pace; stop when the minutes are over."""
    began = time.monotonic()

    def watch(_: dict[str, Any]) -> None:
        lines = read_metrics(out)[-200:]
        loss = sum(line["loss"] for line in lines) / len(lines)
        last, spent = lines[-1], time.monotonic() - began
        pace = (last["seconds"] - lines[0]["seconds"]) / max(len(lines) - 1, 1)
        print(
            f"step {last['step']}, epoch {last['epoch']}: {loss:.2f} nats an utterance, "
            f"{pace:.2f} s a step, {spent / 60:.1f} min",
            flush=True,
        )
        if spent > 60 * minutes:
            raise OutOfTimeError

    return watch


def train(run: TrainSettings, minutes: float) -> Path:
    """The student of a run that came to its end, or else of its last checkpoint."""
    if finished_student(run.out).is_dir():
        return finished_student(run.out)
    try:
        return Trainer(run, World(), watcher(run.out, minutes)).run()
    except OutOfTimeError:
        return list_checkpoints(run.out)[-1].student


def parse_args() -> argparse.Namespace:
    """How long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where it is made")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the speech")
    parser.add_argument("--minutes", type=float, default=60, help="of either CTC, at most")
    parser.add_argument("--encoder", type=Path, default=HEARING, help="student to take it from")
    parser.add_argument("--longest", type=float, default=4.5, help="seconds of what it is taught")
    parser.add_argument("--rate", type=float, default=1e-3, help="greatest learning rate")
    parser.add_argument("--spell-steps", type=int, default=3000, help="of characters")
    parser.add_argument("--ctc-steps", type=int, default=5000, help="of subwords")
    parser.add_argument(
        "--joint-steps", type=int, default=1200, help="of the transducer; 0 for none"
    )
    return parser.parse_args()


def train_ctc(args: argparse.Namespace, hears: Path, tokenizer: str, steps: int) -> Path:
    """An encoder with a CTC head over a tokenizer's pieces."""
    start = begin(hears, args.out / tokenizer, args.out / f"{tokenizer}-start")
    more = {
        "loss": {"rnnt": 0, "ctc": 1},
        "optim": {"learning_rate": args.rate, "warmup": 100, "steps": steps},
    }
    return train(
        settings(args.out, f"{tokenizer}-ctc", tokenizer, init=start, **more), args.minutes
    )


def train_joint(args: argparse.Namespace, hears: Path) -> Path:
    """The transducer."""
    more = {
        "loss": {"rnnt": 1, "ctc": 0.5},
        "optim": {"learning_rate": args.rate, "warmup": 50, "steps": args.joint_steps},
        "seed": 1,
    }
    start = begin_joint(hears, args.out / "transducer-start")
    return train(settings(args.out, "transducer", "subwords", init=start, **more), float("inf"))


def main() -> None:
    """Make whatever is not there yet."""
    args = parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "subwords").is_dir():
        split_manifests(args.data, args.out, args.longest)
        train_tokenizers(args.out)
    hears = train_ctc(args, args.encoder, "characters", args.spell_steps)
    hears = train_ctc(args, hears, "subwords", args.ctc_steps)
    teacher = train_joint(args, hears) if args.joint_steps else hears
    print(f"the teacher is at {teacher}")


if __name__ == "__main__":
    main()
