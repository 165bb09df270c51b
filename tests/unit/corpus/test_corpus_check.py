"""The check finds each kind of problem, all of them at once, and nothing in a clean corpus."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kdcache.corpus import check_corpus, encode_flac, train_sentencepiece
from kdcache.corpus.check import KINDS, CheckResult, Problem
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.corpus.conftest import WriteAudio


def found(*utterances: Utterance) -> list[tuple[str, str]]:
    return [(p.id, p.kind) for p in check_corpus(utterances).problems]


@pytest.fixture
def path(write_audio: WriteAudio) -> str:
    return str(write_audio("a.flac", 2.0))


def test_clean(path: str) -> None:
    result = check_corpus(
        [
            Utterance("a", AudioRef(path, 0.0, 1.0), "one"),
            Utterance("b", AudioRef(path, 1.0, 1.0), "two"),
        ]
    )
    assert result.problems == ()
    assert (result.utterances, result.files, result.seconds) == (2, 1, 2.0)
    assert result.describe() == "2 utterances in 1 files, 0.00 h: no problem found"


def test_seconds_come_from_the_header_where_the_manifest_is_silent(path: str) -> None:
    assert check_corpus([Utterance("a", AudioRef(path, 0.5), "x")]).seconds == 1.5


def test_duplicated_ids(path: str) -> None:
    names = ["a", "b", "a", "a"]
    result = check_corpus([Utterance(n, AudioRef(path, 0.0, 1.0), "x") for n in names])
    assert result.problems == (Problem("duplicate-id", "a", "The id stands there 3 times."),)


def test_missing_audio(tmp_path: Path) -> None:
    result = check_corpus([Utterance("a", AudioRef(str(tmp_path / "no.wav")), "x")])
    assert [p.kind for p in result.problems] == ["bad-audio"]
    assert "no.wav does not exist" in result.problems[0].detail
    assert result.seconds == 0.0


def test_every_utterance_of_a_missing_file_is_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "no.wav")
    utterances = [Utterance(n, AudioRef(gone, i, 1.0), "x") for i, n in enumerate("ab")]
    assert found(*utterances) == [("a", "bad-audio"), ("b", "bad-audio")]


def test_truncated_audio(tmp_path: Path) -> None:
    import numpy as np

    noise = np.random.default_rng(0).integers(-9999, 9999, 32_000).astype(np.int16)
    (tmp_path / "a.flac").write_bytes(encode_flac(noise, 16_000)[:-9000])
    result = check_corpus([Utterance("a", AudioRef(str(tmp_path / "a.flac"), 0.0, 2.0), "x")])
    assert [p.kind for p in result.problems] == ["bad-audio"]
    assert "truncated" in result.problems[0].detail


@pytest.mark.parametrize("duration", [0.0, -1.0])
def test_durations_that_cannot_be(path: str, duration: float) -> None:
    assert found(Utterance("a", AudioRef(path, 0.0, duration), "x")) == [("a", "bad-duration")]


def test_negative_offset(path: str) -> None:
    assert found(Utterance("a", AudioRef(path, -0.5, 1.0), "x")) == [("a", "bad-offset")]


@pytest.mark.parametrize(("offset", "duration"), [(0.0, 2.1), (1.5, 0.6), (2.0, None), (9.0, 1.0)])
def test_beyond_the_end(path: str, offset: float, duration: float | None) -> None:
    assert found(Utterance("a", AudioRef(path, offset, duration), "x")) == [("a", "beyond-end")]


def test_rounded_durations_are_fine(path: str) -> None:
    assert found(Utterance("a", AudioRef(path, 0.0, 2.01), "x")) == []
    assert found(Utterance("a", AudioRef(path, 0.0, 1.99), "x")) == []


def test_other_duration_than_the_header(path: str) -> None:
    assert found(Utterance("a", AudioRef(path, 0.0, 1.5), "x")) == [("a", "other-duration")]


def test_a_stretch_of_a_file_may_be_shorter_than_it(path: str) -> None:
    first, second = AudioRef(path, 0.0, 1.5), AudioRef(path, 1.5, 0.5)
    assert found(Utterance("a", first, "x"), Utterance("b", second, "x")) == []
    assert found(Utterance("b", AudioRef(path, 0.5, 0.5), "x")) == []


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_text(path: str, text: str) -> None:
    assert found(Utterance("a", AudioRef(path, 0.0, 2.0), text)) == [("a", "empty-text")]


def test_text_that_cannot_be_spelt(path: str) -> None:
    tokenizer = train_sentencepiece(["hello world"], 20, "char")
    texts = ["hello", "héllo", ""]
    utterances = [
        Utterance(f"u{i}", AudioRef(path, 0.1, 0.2), text) for i, text in enumerate(texts)
    ]
    result = check_corpus(utterances, tokenizer)
    assert [(p.id, p.kind) for p in result.problems] == [
        ("u1", "cannot-spell"),
        ("u2", "empty-text"),
    ]
    assert "'é'" in result.problems[0].detail


def test_all_problems_of_one_utterance_are_listed(path: str) -> None:
    assert found(Utterance("a", AudioRef(path, -3.0, -1.0), "")) == [
        ("a", "bad-duration"),
        ("a", "bad-offset"),
        ("a", "empty-text"),
    ]


def test_progress_counts_files(write_audio: WriteAudio) -> None:
    paths = [str(write_audio(f"{i}.wav", 0.1)) for i in range(5)]
    calls: list[tuple[int, int]] = []
    utterances = [Utterance(f"{p}{i}", AudioRef(p), "x") for p in paths for i in range(2)]
    check_corpus(utterances, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, 5) for i in range(5)]


def result_of(count: int) -> CheckResult:
    problems = tuple(Problem("empty-text", f"u{i}", "The text is empty.") for i in range(count))
    return CheckResult(count, 1, 3600.0, problems)


def test_description_is_limited() -> None:
    lines = result_of(5).describe(limit=2).splitlines()
    assert lines == [
        "5 utterances in 1 files, 1.00 h: 5 problems",
        "  5 × texts that are empty",
        "u0: empty-text: The text is empty.",
        "u1: empty-text: The text is empty.",
        "… and 3 more (--limit 0 shows all)",
    ]
    assert len(result_of(50).describe(limit=0).splitlines()) == 52


def test_json_form() -> None:
    data = json.loads(json.dumps(result_of(2).to_dict()))
    assert data["counts"] == {"empty-text": 2}
    assert data["hours"] == 1.0
    assert data["problems"][0] == {
        "kind": "empty-text", "id": "u0", "detail": "The text is empty.",
    }  # fmt: skip
    assert set(data["counts"]) <= set(KINDS)
