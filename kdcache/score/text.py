"""A score as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdcache.score.report import ScoreReport

FEW_ZEROS = 0.01
"""A smaller share of zeros is nobody's pruning."""


def score_lines(report: ScoreReport) -> list[str]:
    """The report, a line a figure."""
    wer = report.wer
    pruned = f"pruned       {report.sparsity:.1%} zeros; without them {report.sparse_bytes:,} bytes"
    return [
        f"WER          {wer.wer:.2%}  (95 % interval {wer.low:.2%} to {wer.high:.2%})",
        f"words        {wer.words}: {wer.substitutions} substituted, {wer.deletions} deleted, "
        f"{wer.insertions} inserted",
        f"audio        {report.utterances} utterances, {report.hours:.3f} h",
        f"parameters   {report.parameters:,}",
        f"weights      {report.bytes:,} bytes",
        *([pruned] if report.sparsity > FEW_ZEROS else []),
        f"real time    ×{report.real_time_factor:.4f}  (batches of {report.batch_size}, "
        f"{report.threads} threads)",
    ]
