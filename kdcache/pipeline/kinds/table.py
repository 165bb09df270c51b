"""``table``: arms side by side. Output: ``results``, also beside the stages as OUT/<stage>.json
and OUT/<stage>.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field

from kdcache.config import ConfigPath, Settings
from kdcache.pipeline.kind import StageKind
from kdcache.pipeline.machine import machine
from kdcache.score.arms import compare_arms
from kdcache.score.arms_text import arms_table
from kdcache.score.counts import read_counts
from kdcache.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work
    from kdcache.score.arms import Arm


class TableSettings(Settings):
    """What is compared with what; fixed before anything is run."""

    title: str = ""
    """Stands above the table."""

    scores: tuple[ConfigPath, ...] = Field(min_length=1)
    """Reports of stages of kind ``score``, such as ``${score[*].report}``."""

    controls: dict[str, dict[str, Any]] = Field(default={})
    """By heading, the labels by which an arm's control differs from it, such as
    ``{against no KD: {kd: none}}``."""

    seed: str = "seed"
    """The label that tells the models of one arm apart."""

    columns: tuple[str, ...] = ()
    """Figures to show; all if left out."""

    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap samples of an interval."""

    notes: tuple[str, ...] = ()
    """Sentences that stand below the table, such as what the data are and are not."""


class TableKind(StageKind[TableSettings]):
    """Compare arms."""

    model = TableSettings

    def outputs(self, settings: TableSettings, place: Path) -> dict[str, Path]:
        """The figures, and the page."""
        return {"results": place / "results.json", "page": place / "results.md"}

    def run(self, settings: TableSettings, work: Work) -> dict[str, Any]:
        """Compare and write; what stands below the table is when, where and how."""
        counts = [read_counts(path) for path in settings.scores]
        arms = compare_arms(
            counts, settings.controls, seed_label=settings.seed, resamples=settings.resamples
        )
        about = {
            "command": work.command,
            "machine": machine(),
            "date": datetime.now(UTC).date().isoformat(),
            "kdcache": __version__,
        }
        results = {"title": settings.title, **about, "arms": [arm.to_dict() for arm in arms]}
        page = _page(settings, arms, about, len(counts[0].ids), sum(counts[0].words))
        for folder, stem in ((work.place, "results"), (work.out, work.name.replace("/", "-"))):
            text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
            (folder / f"{stem}.json").write_text(text, encoding="utf-8")
            (folder / f"{stem}.md").write_text(page, encoding="utf-8")
        return {"arms": len(arms)}

    def text(self, settings: TableSettings, place: Path) -> str:
        """The page."""
        return (place / "results.md").read_text(encoding="utf-8")


def _page(
    settings: TableSettings, arms: list[Arm], about: dict[str, str], utterances: int, words: int
) -> str:
    resampled = {change.resampled for arm in arms for change in arm.changes.values() if change}
    how = f", resampling {' and '.join(sorted(resampled))}, all seeds pooled" if resampled else ""
    lines = [
        f"Scored on {utterances:,} utterances, {words:,} words. WER is the mean over seeds; "
        f"intervals are by paired bootstrap{how}.",
        *settings.notes,
        f"`{about['command']}`, kdcache {about['kdcache']}, {about['machine']}, {about['date']}.",
    ]
    head = [f"## {settings.title}", ""] if settings.title else []
    return "\n".join([*head, arms_table(arms, settings.columns), "", *lines, ""])
