"""Speech without transcripts, from the manifest to a student's batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kdcache.corpus import load_audio, read_manifest, write_manifest
from kdcache.extract import ExtractConfig
from kdcache.store import Cache, open_cache
from kdcache.stream import stream_cache
from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import save_small_ctc, save_small_transducer
from tests.unit.extract.extract_fakes import extract_here

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.types import Utterance

ADAPTER = "kdcache.teacher.pseudo:PseudoLabels"
TEXTS = ["one two three four five six seven eight nine oh"]


@pytest.fixture
def corpus(tones: Path, tmp_path: Path) -> list[Utterance]:
    """Six utterances, of which every second lost its transcript."""
    whole = list(read_manifest(tones / "train.jsonl"))[:6]
    half = [one if row % 2 else replace(one, text="") for row, one in enumerate(whole)]
    write_manifest(tmp_path / "half.jsonl", half)
    return half


def extract(place: Path, adapter: str | None, target: str = "lattice") -> Cache:
    config = {
        "teacher": {"path": place / "teacher", "adapter": adapter},
        "corpus": place / "half.jsonl",
        "cache": {"path": str(place / "cache")},
        "targets": [target],
        "unit_utterances": 2,
    }
    return extract_here(ExtractConfig.model_validate(config))


def unwritten(corpus: list[Utterance]) -> set[str]:
    return {utterance.id for utterance in corpus if not utterance.text}


def test_a_transducer_labels_what_has_no_transcript(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    save_small_transducer(tmp_path / "teacher", [*TEXTS, *(u.text for u in corpus if u.text)])
    cache = extract(tmp_path, ADAPTER)
    assert sorted(cache.ids) == sorted(u.id for u in corpus)
    rows = {row["id"]: row for row in cache.catalogue.select(["id", "text", "tokens"]).to_pylist()}
    teacher = load_teacher(tmp_path / "teacher", adapter=ADAPTER)
    for utterance in corpus:
        samples = load_audio(utterance.audio, teacher.spec.sample_rate)
        written = teacher.tokenizer.encode(utterance.text) if utterance.text else ()
        (output,) = teacher.forward([samples], [written])
        row = rows[utterance.id]
        assert row["text"] == utterance.text
        assert tuple(row["tokens"]) == output.tokens
        lattice = cache[utterance.id]["lattice"]
        assert lattice.logp_TSC.shape[:2] == (output.frames, len(output.tokens) + 1)


def test_students_are_given_the_labels(corpus: list[Utterance], tmp_path: Path) -> None:
    save_small_transducer(tmp_path / "teacher", [*TEXTS, *(u.text for u in corpus if u.text)])
    cache = extract(tmp_path, ADAPTER)
    stream = stream_cache(cache, corpus=tmp_path / "half.jsonl", batch_seconds=100.0, seed=0)
    found: dict[str, list[int]] = {}
    for batch in stream:
        for name, labels_U, length in zip(
            batch.ids, batch.labels_BU, batch.label_lengths_B, strict=True
        ):
            found[name] = labels_U[: int(length)].tolist()
    tokens = cache.catalogue.select(["id", "tokens"]).to_pylist()
    assert found == {row["id"]: list(row["tokens"]) for row in tokens}
    assert all(found[name] for name in unwritten(corpus))


def test_ctc_labels_too(corpus: list[Utterance], tmp_path: Path) -> None:
    save_small_ctc(tmp_path / "teacher", [*TEXTS, *(u.text for u in corpus if u.text)])
    cache = extract(tmp_path, ADAPTER, "encoder_logits")
    rows = cache.catalogue.select(["id", "tokens"]).to_pylist()
    tokens = {row["id"]: tuple(row["tokens"]) for row in rows}
    teacher = load_teacher(tmp_path / "teacher", adapter=ADAPTER)
    for utterance in corpus:
        if not utterance.text:
            samples = load_audio(utterance.audio, teacher.spec.sample_rate)
            (output,) = teacher.forward([samples], [()])
            assert tokens[utterance.id] == output.tokens != ()


def test_without_it_they_are_failures_that_say_what_to_do(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    save_small_transducer(tmp_path / "teacher", [*TEXTS, *(u.text for u in corpus if u.text)])
    extract(tmp_path, None)
    failures = open_cache(tmp_path / "cache").failures.to_pylist()
    assert {row["id"] for row in failures} == unwritten(corpus)
    assert all("kdcache.teacher.pseudo:PseudoLabels" in row["message"] for row in failures)
