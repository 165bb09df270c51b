"""``score``: a student on a manifest. Output: ``report``, hypotheses and counts as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdcache.config import ConfigLocation, ConfigPath, Settings
from kdcache.corpus import read_manifest
from kdcache.inspect.summary import outline
from kdcache.pipeline.kind import StageKind
from kdcache.score import score_student
from kdcache.score.counts import count_all, write_counts
from kdcache.score.entropy import measure_entropies
from kdcache.score.speed import single_real_time_factor
from kdcache.store import open_cache
from kdcache.student import load_student
from kdcache.student.packing import weights_file

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work

FIGURES = ("parameters", "bytes", "sparsity", "sparse_bytes", "real_time_factor")
"""What a comparison takes from a score besides the errors."""


class ScoreSettings(Settings):
    """What is scored on what."""

    student: ConfigPath
    """The student's folder."""

    manifest: ConfigPath
    """With transcripts."""

    cache: ConfigLocation | None = None
    """The cache that it learnt from; its bytes per hour of audio go into the table."""

    labels: dict[str, Any] = Field(default={})
    """What sort of student it is, besides the stage's variables."""

    entropies: bool = False
    """Measure how sure a transducer's encoder and nodes are: see ``kdcache.score.entropy``."""

    batch_size: int = Field(default=16, ge=1)
    """Utterances decoded at once."""

    timed: int = Field(default=0, ge=0)
    """How many utterances the real-time factor is measured on, one at a time in one thread; 0: on
    all of them, as they are decoded."""


class ScoreKind(StageKind[ScoreSettings]):
    """Decode, count errors, measure sizes and speed."""

    model = ScoreSettings

    def outputs(self, settings: ScoreSettings, place: Path) -> dict[str, Path]:
        """The report."""
        return {"report": place / "score.json"}

    def run(self, settings: ScoreSettings, work: Work) -> dict[str, Any]:
        """Score; the word error rate and other figures."""
        utterances = read_manifest(settings.manifest)
        with work.show(f"Scoring {work.name}", len(utterances), "utterances") as shown:
            student = load_student(settings.student)
            report = score_student(
                student,
                utterances,
                weights=weights_file(settings.student),
                batch_size=settings.batch_size,
                progress=lambda done, total: shown.update(done, total),
            )
        figures = {name: float(getattr(report, name)) for name in FIGURES}
        if settings.timed:
            figures["real_time_factor"] = single_real_time_factor(
                student, utterances, settings.timed
            )
        if settings.cache is not None:
            summary = outline(open_cache(settings.cache))
            figures["cache_bytes_per_hour"] = float(summary.bytes_per_hour or 0.0)
        if settings.entropies:
            student = load_student(settings.student)
            figures |= measure_entropies(
                student, utterances, batch_size=settings.batch_size
            ).figures()
        labels = {**settings.labels, **work.variables}
        counts = count_all(utterances, report.hypotheses, labels, figures)
        write_counts(work.place / "score.json", counts)
        return {"wer": counts.wer, **figures}
