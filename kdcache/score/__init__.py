"""How good, how big, how fast: decoding, word error rate, size, real-time factor."""

from __future__ import annotations

from kdcache.score.decode import decode_labels
from kdcache.score.greedy import greedy_decode
from kdcache.score.latency import LatencyReport, latency_report, stream_utterance
from kdcache.score.report import ScoreReport, score_student
from kdcache.score.wer import WordErrorRate, count_errors, word_error_rate

__all__ = [
    "LatencyReport",
    "ScoreReport",
    "WordErrorRate",
    "count_errors",
    "decode_labels",
    "greedy_decode",
    "latency_report",
    "score_student",
    "stream_utterance",
    "word_error_rate",
]
