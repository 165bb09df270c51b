"""How figures and summaries are written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.inspect.coverage import Coverage
from kdcache.inspect.summary import CacheSummary, TargetSummary, WorstUtterances
from kdcache.inspect.text import (
    WIDTH,
    folded,
    format_bytes,
    format_count,
    format_duration,
    format_settings,
    status_lines,
    summary_lines,
    utterance_lines,
)
from kdcache.inspect.utterance import ColumnSummary, UtteranceSummary

TARGET = TargetSummary(
    "lattice", "lattice", "lattice", {"top_k": 8}, {"name": "log8", "floor": 16}, 10**7,
    {"kl_max": 0.0123, "kl_mean": 0.000012345},
)  # fmt: skip
SUMMARY = CacheSummary(
    path="runs/cache", layout="zarr", format_version=1, teacher="big", teacher_kind="ctc",
    teacher_fingerprint="0" * 64, tokenizer="1" * 64, targets=(TARGET,), audio="none",
    audio_bytes=0, units=1, utterances=1234, failed={}, hours=2.0, bytes=2 * 10**7,
    bytes_per_hour=10.0**7,
)  # fmt: skip
UTTERANCE = UtteranceSummary(
    "a-1", "one two", "ada", 1.5, "u0", (1, 2), 40,
    (ColumnSummary("lattice.logp", "uint8", (40, 3, 11), 1320), ColumnSummary("x.n", "f4", (), 4)),
    {"lattice.kl_mean": 0.5},
)  # fmt: skip


def flat(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (1, "1 B"), (999, "999 B"), (1000, "1.0 kB"), (99_940, "99.9 kB"),
        (99_960, "100 kB"), (999_400, "999 kB"), (999_600, "1.0 MB"), (12.3e6, "12.3 MB"),
        (4.56e9, "4.6 GB"), (7e12, "7.0 TB"), (7e15, "7,000.0 TB"),
    ],
)  # fmt: skip
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text


@given(st.floats(0, 1e15))
def test_bytes_are_right_within_half_a_digit(count: float) -> None:
    number, unit = format_bytes(count).split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    step = 0.1 if "." in number else 1
    assert abs(float(number.replace(",", "")) * scale - count) <= 0.5001 * step * scale


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0, "0.0 s"), (0.001, "3.6 s"), (0.5, "30.0 min"), (1, "1.0 h"), (1234.56, "1,234.6 h")],
)
def test_durations(hours: float, text: str) -> None:
    assert format_duration(hours) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 units"), (1, "1 unit"), (2, "2 units"), (12345, "12,345 units")]
)
def test_counts(count: int, text: str) -> None:
    assert format_count(count, "unit") == text


def test_settings_are_sorted() -> None:
    assert format_settings({"b": 1, "a": "x"}) == "a x, b 1"


def test_a_summary() -> None:
    text = flat(summary_lines(SUMMARY, "a-1"))
    assert text.startswith(
        "runs/cache (zarr, format 1) teacher big, ctc fingerprint 0000000000000000"
    )
    assert "utterances 1,234 utterances, 2.0 h, in 1 unit failed none" in text
    assert "size 20.0 MB, 10.0 MB per hour of audio" in text
    assert "keeps lattice, top_k 8 codec log8, floor 16 size 10.0 MB, 5.0 MB per hour" in text
    assert "fidelity kl_max 0.012, kl_mean 1.2e-05 (nats)" in text
    assert text.endswith(
        "in Python cache = kdcache.open_cache('runs/cache') record = cache['a-1']['lattice']"
    )


def test_a_summary_of_nothing() -> None:
    empty = replace(SUMMARY, utterances=0, hours=0.0, units=0, bytes=1500, bytes_per_hour=None)
    text = flat(summary_lines(replace(empty, targets=())))
    assert "0 utterances, 0.0 s, in 0 units" in text
    assert "size 1.5 kB in Python" in text
    assert "record =" not in text


def test_audio_has_a_row_where_there_is_any() -> None:
    with_audio = replace(SUMMARY, audio="flac", audio_bytes=10**8)
    assert "audio flac, 100 MB, 50.0 MB per hour of audio" in flat(summary_lines(with_audio))
    assert not any(line.strip().startswith("audio") for line in summary_lines(SUMMARY))


def test_values_that_are_no_divergence_have_no_unit() -> None:
    target = replace(TARGET, fidelity={"error_max": 0.5})
    text = flat(summary_lines(replace(SUMMARY, targets=(target,))))
    assert "fidelity error_max 0.5" in text
    assert "nats" not in text


def test_many_measures_are_wrapped() -> None:
    target = replace(TARGET, fidelity={f"kl_measure_{i}": i / 7 for i in range(20)})
    lines = summary_lines(replace(SUMMARY, targets=(target,)))
    assert max(map(len, lines)) <= WIDTH
    assert "kl_measure_19" in flat(lines)


def test_status_without_a_corpus() -> None:
    lines = status_lines(replace(SUMMARY, failed={"audio": 2, "transcript": 1}))
    assert flat(lines) == (
        "runs/cache committed 1,234 utterances, 2.0 h, in 1 unit failed 3: audio 2, transcript 1"
        " size 20.0 MB, 10.0 MB per hour of audio"
    )


@pytest.mark.parametrize(
    ("coverage", "text"),
    [
        (Coverage(8, 8, 0, 0, 0.0), "8 of 8 utterances (100.0 %)"),
        (Coverage(8, 6, 2, 0, 0.0), "6 of 8 utterances (75.0 %), 2 failed"),
        (Coverage(3, 1, 0, 2, 1.5), "1 of 3 utterances (33.3 %), 2 waiting (1.5 h)"),
        (Coverage(0, 0, 0, 0, 0.0), "0 of 0 utterances (100.0 %)"),
    ],
)
def test_status_against_a_corpus(coverage: Coverage, text: str) -> None:
    assert flat(status_lines(SUMMARY, coverage)).endswith(f"corpus {text}")


@pytest.mark.parametrize(
    ("coverage", "complete"),
    [
        (Coverage(2, 2, 0, 0, 0.0), True),
        (Coverage(2, 1, 1, 0, 0.0), False),
        (Coverage(2, 1, 0, 1, 0.0), False),
    ],
)
def test_only_what_is_cached_completes(coverage: Coverage, complete: bool) -> None:
    assert coverage.complete is complete
    assert coverage.to_dict()["complete"] is complete


def test_an_utterance() -> None:
    text = flat(utterance_lines(UTTERANCE))
    assert text.startswith("a-1 text one two speaker ada duration 1.50 s unit u0 tokens 2: 1 2")
    assert "frames 40 size 1.3 kB" in text
    assert "lattice.logp uint8 40 × 3 × 11 1.3 kB" in text
    assert "x.n f4 scalar 4 B" in text
    assert text.endswith("fidelity lattice.kl_mean 0.5 (nats)")


def test_a_long_text_is_wrapped() -> None:
    lines = utterance_lines(replace(UTTERANCE, text="word " * 100, tokens=tuple(range(300))))
    assert max(map(len, lines)) <= WIDTH
    assert flat(lines).count("word") == 100
    assert "298 299" in flat(lines)


def test_an_utterance_without_anything() -> None:
    bare = UtteranceSummary("a", "", None, 0.0, "u0")
    text = flat(utterance_lines(bare))
    assert "text (none) speaker (unknown)" in text
    assert "tokens 0: (none)" in text
    assert "fidelity not measured" in text


def test_a_failed_utterance_ends_with_its_reason() -> None:
    failed = UtteranceSummary("a", "x", None, 1.0, "u0", error="audio", message="it is cut off")
    lines = utterance_lines(failed)
    assert lines[-1].split() == ["failed", "audio:", "it", "is", "cut", "off"]
    assert "frames" not in flat(lines)


def test_a_table_among_the_settings_is_shown_by_its_kind() -> None:
    assert format_settings({"tail": {"kind": "prior", "codes": "AAAA"}, "bits": 7}) == (
        "bits 7, tail prior"
    )


def test_the_worst_utterances_and_the_band() -> None:
    worst = WorstUtterances("kl_mean", 0.0021, ("a-1", "a-7"), (0.0043, 0.0039))
    target = replace(TARGET, worst=worst, fidelity={"kl_mean": 0.001, "band_outside": 0.00072})
    text = flat(summary_lines(replace(SUMMARY, targets=(target,))))
    assert "utterances kl_mean of 99 % up to 0.0021; most: a-1 0.0043, a-7 0.0039" in text
    assert "band covers 99.928 % of the teacher's occupancy" in text


def test_units_in_trouble() -> None:
    troubled = replace(SUMMARY, units_incomplete=2, units_set_aside=1)
    expected = "units 2 with failed utterances, 1 damaged and taken out: `kdcache repair` size"
    assert expected in flat(summary_lines(troubled))
    assert "units" not in flat(summary_lines(SUMMARY))


@given(st.integers(10, 120))
def test_folded_lines_are_as_narrow_as_the_terminal(width: int) -> None:
    lines = summary_lines(SUMMARY, "a-1")
    narrow = folded(lines, width)
    assert max(map(len, narrow)) <= max(width, 24)
    assert "".join("".join(narrow).split()) == "".join("".join(lines).split())


def test_values_go_on_under_values() -> None:
    assert folded(["  size          20.0 MB, 10.0 MB per hour"], 34) == [
        "  size          20.0 MB, 10.0 MB",
        "                per hour",
    ]
