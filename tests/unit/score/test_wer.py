"""Word error rate and its interval."""

from __future__ import annotations

import pytest

from kdcache.errors import InputError
from kdcache.score import word_error_rate


def test_counts_each_kind_of_error() -> None:
    result = word_error_rate(["a b c d", "e f"], ["a x c", "e f g"])
    assert (result.substitutions, result.deletions, result.insertions) == (1, 1, 1)
    assert result.words == 6
    assert result.wer == pytest.approx(0.5)


def test_an_empty_reference_counts_its_insertions() -> None:
    result = word_error_rate(["", "a b"], ["x y", "a b"])
    assert (result.insertions, result.words, result.wer) == (2, 2, 1.0)


def test_the_interval_holds_the_rate_and_shrinks_with_data() -> None:
    few = word_error_rate(["a b", "c d"] * 10, ["a b", "c x"] * 10)
    many = word_error_rate(["a b", "c d"] * 1000, ["a b", "c x"] * 1000)
    assert few.low <= few.wer <= few.high
    assert many.high - many.low < few.high - few.low


def test_the_interval_is_reproducible_and_seeded() -> None:
    references, hypotheses = ["a b c"] * 50, ["a b c"] * 25 + ["a x c"] * 25
    first = word_error_rate(references, hypotheses, seed=1)
    assert first == word_error_rate(references, hypotheses, seed=1)


def test_resampling_speakers_widens_the_interval() -> None:
    """All errors are one speaker's: utterances understate how much that may vary."""
    references, hypotheses = ["a b"] * 100, ["a b"] * 80 + ["x y"] * 20
    speakers = [f"s{i // 20}" for i in range(100)]
    by_utterance = word_error_rate(references, hypotheses)
    by_speaker = word_error_rate(references, hypotheses, groups=speakers)
    assert by_speaker.high - by_speaker.low > by_utterance.high - by_utterance.low


def test_a_perfect_transcript_has_no_width() -> None:
    result = word_error_rate(["a b"], ["a b"])
    assert (result.wer, result.low, result.high) == (0, 0, 0)


@pytest.mark.parametrize(("references", "hypotheses"), [(["a"], []), ([], []), ([""], ["x"])])
def test_nothing_to_score_is_refused(references: list[str], hypotheses: list[str]) -> None:
    with pytest.raises(InputError):
        word_error_rate(references, hypotheses)
