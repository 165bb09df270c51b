"""``latency``: a student really decoded chunk by chunk, one utterance after the other.

Output: ``report``, hypotheses and counts as a ``score`` has them, and how long frames waited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.corpus import load_audio, read_manifest
from kdcache.inspect.summary import outline
from kdcache.pipeline.kind import StageKind
from kdcache.pipeline.kinds.score import ScoreSettings
from kdcache.score.counts import count_all, write_counts
from kdcache.score.latency import latency_report, stream_utterance
from kdcache.score.report import count_parameters
from kdcache.store import open_cache
from kdcache.student import load_student

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work
    from kdcache.score.latency import LatencyReport, StreamedUtterance


class LatencyKind(StageKind[ScoreSettings]):
    """Decode as it comes, count errors, measure latency and speed."""

    model = ScoreSettings

    def outputs(self, settings: ScoreSettings, place: Path) -> dict[str, Path]:
        """The report."""
        return {"report": place / "score.json"}

    def run(self, settings: ScoreSettings, work: Work) -> dict[str, Any]:
        """Decode; the word error rate and other figures. ``batch_size`` is of no effect."""
        utterances = read_manifest(settings.manifest)
        student = load_student(settings.student)
        streamed: list[StreamedUtterance] = []
        with work.show(f"Streaming {work.name}", len(utterances), "utterances") as shown:
            for utterance in utterances:
                samples = load_audio(utterance.audio, student.sample_rate)
                streamed.append(stream_utterance(student, samples))
                shown.update(len(streamed), len(utterances))
        figures = {
            "parameters": float(count_parameters(student)),
            "bytes": float((settings.student / "model.safetensors").stat().st_size),
            **_figures(latency_report(streamed)),
        }
        if settings.cache is not None:
            summary = outline(open_cache(settings.cache))
            figures["cache_bytes_per_hour"] = float(summary.bytes_per_hour or 0.0)
        decoded = [student.tokenizer.decode(one.labels) for one in streamed]
        hypotheses = dict(zip((u.id for u in utterances), decoded, strict=True))
        labels = {**settings.labels, **work.variables}
        counts = count_all(utterances, hypotheses, labels, figures)
        write_counts(work.place / "score.json", counts)
        return {"wer": counts.wer, **figures}


def _figures(report: LatencyReport) -> dict[str, float]:
    return {
        "latency_mean": report.mean_seconds,
        "latency_worst": report.worst_seconds,
        "real_time_factor": report.real_time_factor,
        "chunk_seconds": report.chunk_seconds,
        "worst_chunk_seconds": report.worst_chunk_seconds,
    }
