"""A score as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdcache.score.report import ScoreReport
    from kdcache.score.two_pass import TwoPassReport
    from kdcache.score.wer import WordErrorRate

FEW_ZEROS = 0.01
"""A smaller share of zeros is nobody's pruning."""


def score_lines(report: ScoreReport) -> list[str]:
    """The report, a line a figure."""
    wer = report.wer
    pruned = f"pruned       {report.sparsity:.1%} zeros; without them {report.sparse_bytes:,} bytes"
    return [
        f"WER          {_rate(wer)}",
        f"words        {wer.words}: {wer.substitutions} substituted, {wer.deletions} deleted, "
        f"{wer.insertions} inserted",
        f"audio        {report.utterances} utterances, {report.hours:.3f} h",
        f"parameters   {report.parameters:,}",
        f"weights      {report.bytes:,} bytes",
        *([pruned] if report.sparsity > FEW_ZEROS else []),
        f"real time    ×{report.real_time_factor:.4f}  (batches of {report.batch_size}, "
        f"{report.threads} threads)",
    ]


def two_pass_lines(report: TwoPassReport) -> list[str]:
    """The report of both passes, a line a figure."""
    return [
        f"first pass   {_rate(report.first)}",
        f"rescored     {_rate(report.rescored)}",
        f"nearest      {_rate(report.oracle)}",
        f"weight       {report.weight:.2f} of the second pass; a beam of {report.beam}",
        f"words        {report.rescored.words} in {report.utterances} utterances",
        f"parameters   {report.parameters:,}, of both passes",
        f"weights      {report.bytes:,} bytes",
        f"real time    ×{report.real_time_factor:.4f}",
    ]


def _rate(wer: WordErrorRate) -> str:
    return f"{wer.wer:.2%}  (95 % interval {wer.low:.2%} to {wer.high:.2%})"
