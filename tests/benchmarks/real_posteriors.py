"""What the teacher of ``real_teacher`` says of speech that it learnt from, and of other speech.

    python tests/benchmarks/real_posteriors.py     build/real/{held-out,heard}.npz, teacher.json
    python tests/benchmarks/real_posteriors.py --room build/half --student subwords-ctc/student

An npz file holds the log-probabilities of the CTC head, float32 (T, V), an array an utterance, as
``rate_distortion.py --posteriors`` reads them: ``held-out`` of speakers that the teacher never
heard, ``heard`` of its training set, as many. Their first half is there for models of the rest.
``teacher.json`` says how good the teacher is on either, and ``frames_a_second``. The transducer's
lattices are not kept: ``bench_real_band.py`` asks for them.

Shapes: T encoder frames, V vocabulary with blank.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from peaky_posteriors import entropy, log_softmax
from torch.nn.functional import ctc_loss

from kdcache.corpus import read_manifest
from kdcache.corpus.audio import load_audio
from kdcache.score.report import score_student
from kdcache.score.wer import word_error_rate
from kdcache.student import load_student
from kdcache.teacher import load_teacher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcache.teacher import Teacher, TeacherOutput
    from kdcache.types import Utterance

ROOM = Path("build/real")
STUDENT = "transducer/student"
BATCH = 8
SETS = {"held-out": ("dev", "test"), "heard": ("train", "train")}


@dataclass(frozen=True)
class Quality:
    """How good a teacher is on some speech.

    Attributes:
        utterances, hours: of speech.
        entropy: of the CTC head, nats a frame.
        blank: share of the frames of which blank is the likeliest class.
        ctc: loss, nats a label.
        ctc_wer: of the CTC head's best path.
        wer: of the transducer, decoded greedily; ``None`` where it was never trained.
    """

    utterances: int
    hours: float
    entropy: float
    blank: float
    ctc: float
    ctc_wer: float
    wer: float | None


def pick(room: Path, splits: Sequence[str], count: int) -> list[Utterance]:
    """``count`` utterances, one half of either split; of one split the two halves differ."""
    taken: list[Utterance] = []
    for split in splits:
        there = [u for u in read_manifest(room / f"{split}.jsonl") if u not in taken]
        step = max(1, len(there) // (count // 2))
        taken += there[::step][: count // 2]
    return taken


def ask(
    teacher: Teacher, utterances: Sequence[Utterance]
) -> Iterator[tuple[Utterance, TeacherOutput]]:
    """What the teacher says of each utterance, in order."""
    for start in range(0, len(utterances), BATCH):
        part = utterances[start : start + BATCH]
        audio = [load_audio(u.audio, teacher.spec.sample_rate) for u in part]
        tokens = [teacher.tokenizer.encode(u.text) for u in part]
        with torch.inference_mode():
            yield from zip(part, teacher.forward(audio, tokens), strict=True)


def quality(student_at: Path, asked: Sequence[tuple[Utterance, TeacherOutput]]) -> Quality:
    """Its losses and word error rates."""
    student = load_student(student_at)
    blank, logp, texts = student.blank, [], []
    loss = labels = 0.0
    for _, output in asked:
        assert output.frame_logits_TV is not None
        logp_TV = output.frame_logits_TV.log_softmax(-1)
        frames, tokens = torch.tensor([output.frames]), torch.tensor([output.tokens])
        lost = ctc_loss(
            logp_TV[:, None], tokens, frames, torch.tensor([len(output.tokens)]), blank,
            reduction="sum",
        )  # fmt: skip
        # More labels than frames, as hurried speech may have, are beyond CTC.
        if torch.isfinite(lost):
            loss, labels = loss + float(lost), labels + len(output.tokens)
        best = torch.unique_consecutive(logp_TV.argmax(-1)).tolist()
        texts.append(student.tokenizer.decode([i for i in best if i != blank]))
        logp.append(logp_TV.numpy())
    utterances = [utterance for utterance, _ in asked]
    transducer = student_at.match(STUDENT)
    decoded = score_student(student, utterances) if transducer else None
    references = [utterance.text for utterance in utterances]
    return Quality(
        utterances=len(utterances),
        hours=round(sum(u.duration for u in utterances) / 3600, 3),
        entropy=entropy(logp),
        blank=float(np.mean(np.concatenate([x.argmax(-1) for x in logp]) == blank)),
        ctc=loss / labels,
        ctc_wer=word_error_rate(references, texts).wer,
        wer=None if decoded is None else decoded.wer.wer,
    )


def save(path: Path, asked: Sequence[tuple[Utterance, TeacherOutput]]) -> None:
    """Log-probabilities of the CTC head by the utterances' ids."""
    arrays = {}
    for utterance, output in asked:
        assert output.frame_logits_TV is not None
        arrays[utterance.id] = log_softmax(output.frame_logits_TV.numpy())
    np.savez(path, **arrays)


def parse_args() -> argparse.Namespace:
    """How much; the defaults take a minute or two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--room", type=Path, default=ROOM, help="where real_teacher.py made it")
    parser.add_argument("--student", default=STUDENT, help="which of the students there")
    parser.add_argument("--utterances", type=int, default=80, help="of each set")
    return parser.parse_args()


def main() -> None:
    """Write the sets and what the teacher is worth."""
    args = parse_args()
    torch.set_num_threads(1)
    teacher = load_teacher(args.room / args.student)
    found: dict[str, object] = {}
    for name, splits in SETS.items():
        asked = list(ask(teacher, pick(args.room, splits, args.utterances)))
        save(args.room / f"{name}.npz", asked)
        found[name] = asdict(quality(args.room / args.student, asked))
        print(name, json.dumps(found[name]), flush=True)
    found["frames_a_second"] = 1 / teacher.spec.frame_shift
    (args.room / "teacher.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
