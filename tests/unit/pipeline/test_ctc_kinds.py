"""Stages that CTC students need: the denominator, and decoding as it comes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.loss import load_ngram
from kdcache.pipeline.kind import Work
from kdcache.pipeline.registry import kind_of
from kdcache.score import score_student
from kdcache.score.counts import read_counts
from kdcache.student import build_student, load_student, save_student
from kdcache.student.ctc_settings import CTCStudentSettings, StreamingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Quiet:
    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        pass


@contextmanager
def show(label: str, total: float | None = None, unit: str = "") -> Iterator[Quiet]:
    yield Quiet()


def run(kind: str, place: Path, settings: dict[str, Any], **variables: Any) -> dict[str, Any]:
    place.mkdir()
    found = kind_of(kind)
    parsed = found.model.model_validate(settings)
    facts = found.run(parsed, Work(kind, place, place, variables, show))
    assert all(path.exists() for path in found.outputs(parsed, place).values())
    return facts


def test_a_denominator_of_a_manifest(tones: Path, tmp_path: Path) -> None:
    settings = {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer", "order": 3}
    facts = run("denominator", tmp_path / "den", settings)
    ngram, tokenizer = (
        load_ngram(tmp_path / "den" / "denominator.npz"),
        load_tokenizer(tones / "tokenizer"),
    )
    assert (ngram.order, ngram.labels) == (3, tokenizer.vocab_size)
    assert ngram.tokenizer == tokenizer.fingerprint
    assert facts == {"states": 2 * len(ngram.last_H), "transcripts": 24}
    said, never = (ngram.log_prob(tokenizer.encode(text)) for text in ("low mid", "wol dim"))
    assert said > never + 5


@pytest.mark.parametrize("streaming", [None, StreamingSettings(chunk=4, history=8)])
def test_decoding_as_it_comes(tones: Path, tmp_path: Path, streaming: Any) -> None:
    tokenizer = load_tokenizer(tones / "tokenizer")
    torch.manual_seed(0)
    made = CTCStudentSettings(kind="ctc", hidden=16, layers=1, heads=2, conv_channels=8)
    student = build_student(made.model_copy(update={"streaming": streaming}), tokenizer)
    path = save_student(student, tmp_path / "s")
    settings = {"student": path, "manifest": tones / "train.jsonl", "labels": {"arm": "x"}}
    facts = run("latency", tmp_path / "latency", settings, seed=3)
    counts = read_counts(tmp_path / "latency" / "score.json")
    assert counts.labels == {"arm": "x", "seed": 3}
    assert facts["wer"] == counts.wer
    # A chunk, what its last frame hears beyond its shift, and the packet that ends it.
    worst = 0.9 if streaming is None else 0.08 + 0.03 + 0.01
    assert facts["latency_worst"] == pytest.approx(worst, abs=0.01)
    assert 0 < facts["latency_mean"] < facts["latency_worst"]
    # What was heard chunk by chunk is what a score of whole utterances hears.
    whole = score_student(load_student(path), read_manifest(tones / "train.jsonl"))
    assert counts.wer == pytest.approx(whole.wer.wer)
