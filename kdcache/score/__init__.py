"""How good, how big, how fast: decoding, word error rate, size, real-time factor."""

from __future__ import annotations

from kdcache.score.decode import decode_labels
from kdcache.score.greedy import greedy_decode
from kdcache.score.report import ScoreReport, score_student
from kdcache.score.wer import WordErrorRate, count_errors, word_error_rate

__all__ = [
    "ScoreReport",
    "WordErrorRate",
    "count_errors",
    "decode_labels",
    "greedy_decode",
    "score_student",
    "word_error_rate",
]
