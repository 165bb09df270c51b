"""``rescore``: a two-pass student on a manifest. Outputs: ``rescored`` and ``first``, the texts and
counts of either pass as JSON; their labels differ in ``pass``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdcache.config import ConfigPath, Settings
from kdcache.corpus import read_manifest
from kdcache.pipeline.kind import StageKind
from kdcache.score.counts import count_all, write_counts
from kdcache.score.nbest import BEAM
from kdcache.score.report import count_parameters
from kdcache.score.two_pass import score_two_pass
from kdcache.student import load_student

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work
    from kdcache.score.two_pass import TwoPassReport


class RescoreSettings(Settings):
    """What is decoded twice."""

    student: ConfigPath
    """The student's folder; it has a rescorer."""

    manifest: ConfigPath
    """With transcripts."""

    dev: ConfigPath
    """Other utterances, on which the second pass's weight is chosen."""

    labels: dict[str, Any] = Field(default={})
    """What sort of student it is, besides the stage's variables."""

    beam: int = Field(default=BEAM, ge=1)
    """Label sequences that stay after each frame, and are rescored."""

    batch_size: int = Field(default=16, ge=1)
    """Utterances heard at once."""


class RescoreKind(StageKind[RescoreSettings]):
    """Search, rescore, count the errors of both passes."""

    model = RescoreSettings

    def outputs(self, settings: RescoreSettings, place: Path) -> dict[str, Path]:
        """The counts of either pass."""
        return {"rescored": place / "rescored.json", "first": place / "first.json"}

    def run(self, settings: RescoreSettings, work: Work) -> dict[str, Any]:
        """Decode twice; word error rates of both passes, of the best to be had, and the weight."""
        utterances, dev = read_manifest(settings.manifest), read_manifest(settings.dev)
        student = load_student(settings.student)
        with work.show(f"Rescoring {work.name}", len(utterances) + len(dev), "utterances") as shown:
            report = score_two_pass(
                student,
                utterances,
                tune_on=dev,
                beam=settings.beam,
                batch_size=settings.batch_size,
                progress=lambda done, total: shown.update(done, total),
            )
        labels = {**settings.labels, **work.variables}
        second = {"parameters": float(report.parameters), **_figures(report)}
        first = {"parameters": float(count_parameters(student))}
        for name, texts, figures in (
            ("rescored", report.hypotheses, second),
            ("first", report.first_hypotheses, first),
        ):
            counts = count_all(utterances, texts, {**labels, "pass": name}, figures)
            write_counts(work.place / f"{name}.json", counts)
        return {"first": report.first.wer, "rescored": report.rescored.wer, **_figures(report)}


def _figures(report: TwoPassReport) -> dict[str, float]:
    """What is told of the second pass alone."""
    return {
        "weight": report.weight,
        "nearest": report.oracle.wer,
        "real_time_factor": report.real_time_factor,
    }
