"""``corpus``: utterances to train and to score on.

Outputs: one manifest a split, by the split's name, and one a subset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from kdcache.config import ConfigPath, Settings
from kdcache.corpus import read_manifest, write_manifest
from kdcache.corpus.composed import compose_digits
from kdcache.corpus.mismatched import write_mismatched
from kdcache.corpus.synth import SynthSettings, synthesise
from kdcache.corpus.synth.settings import NOISES
from kdcache.pipeline.digest import combined, digest_of
from kdcache.pipeline.kind import StageKind

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.pipeline.kind import Work
    from kdcache.types import Utterance

DATA = "data"
"""Folder of what is made, within the stage's."""


class SynthSource(Settings):
    """Synthesised speech; see ``kdcache corpus synth``."""

    kind: str = "sentences"
    """``sentences`` from the grammar, or ``digits``."""

    splits: dict[str, int] = Field(min_length=1)
    """Utterances of each split."""

    seed: int = 7
    """Of every choice."""

    words: tuple[int, int] | None = None
    """Fewest and most words of an utterance."""

    snr: tuple[float, float] | None = (5.0, 20.0)
    """Signal-to-noise ratio in dB, lowest and highest; none at all for null."""

    noises: tuple[str, ...] = NOISES
    """Kinds of noise to choose from."""

    reverb: float = 0.0
    """Share of utterances in a synthetic room."""

    voices: int = 40
    """Number of voices."""

    held_out_voices: bool = False
    """Give every split voices of its own."""

    rate: tuple[int, int] = (140, 200)
    """Slowest and fastest speech, words a minute."""

    sample_rate: int = 16_000
    """Hz."""


class DigitsSource(Settings):
    """Concatenated digit recordings of people; ``KDCACHE_DATA`` names their folder."""

    hours: dict[str, float] = Field(min_length=1)
    """Of each split."""

    splits: str = "splits_takes.json"
    """Which recordings belong to which split."""

    seed: int = 7
    """Of every choice."""


class Subset(Settings):
    """A part of a split: its first utterances."""

    of: str
    """The split."""

    hours: float = Field(gt=0)
    """That they add up to; at least one utterance."""


class CorpusSettings(Settings):
    """Where speech comes from: exactly one source."""

    synth: SynthSource | None = None
    """Synthesise it."""

    digits: DigitsSource | None = None
    """Compose it of recorded digits."""

    manifests: dict[str, ConfigPath] | None = None
    """It is there: a manifest for each split."""

    mismatched: dict[str, ConfigPath] | None = None
    """Manifests whose utterances keep id, text and length and get one another's audio: what a
    teacher believes of these has nothing to do with what is said."""

    subsets: dict[str, Subset] = Field(default={})
    """More manifests, by name."""

    @model_validator(mode="after")
    def _one(self) -> CorpusSettings:
        sources = ("synth", "digits", "manifests", "mismatched")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"should have one of {', '.join(sources)}, got {' and '.join(given) or 'none'}"
            )
        for name, subset in self.subsets.items():
            if subset.of not in self.splits or name in self.splits:
                raise ValueError(
                    f"should have subsets of {', '.join(self.splits)} under other names, got "
                    f"{name!r} of {subset.of!r}"
                )
        return self

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        sources = (
            self.synth and self.synth.splits,
            self.digits and self.digits.hours,
            self.manifests,
            self.mismatched,
        )
        return tuple(next(source for source in sources if source))


class CorpusKind(StageKind[CorpusSettings]):
    """Make or find a corpus."""

    model = CorpusSettings

    def outputs(self, settings: CorpusSettings, place: Path) -> dict[str, Path]:
        """Manifests by split and subset."""
        names = (*settings.splits, *settings.subsets)
        return {name: place / DATA / f"{name}.jsonl" for name in names}

    def run(self, settings: CorpusSettings, work: Work) -> dict[str, Any]:
        """Make what is not there yet; hours and utterances of each split."""
        data = work.place / DATA
        # Synthesis refuses a folder in which it finds what is not its own.
        for name in settings.subsets:
            (data / f"{name}.jsonl").unlink(missing_ok=True)
        self._make(settings, data, work)
        for name, subset in settings.subsets.items():
            utterances = read_manifest(data / f"{subset.of}.jsonl")
            write_manifest(data / f"{name}.jsonl", _first_hours(utterances, subset.hours))
        found = {name: read_manifest(at) for name, at in self.outputs(settings, work.place).items()}
        return {name: _facts(utterances) for name, utterances in found.items()}

    def digest(self, name: str, path: Path) -> str:
        """Of the manifest and of the audio of its split, where that was made here."""
        folder = path.parent
        parts = [digest_of(path)]
        summary = folder / "summary.json"
        parts += [digest_of(summary)] if summary.is_file() else []
        audio = folder / name
        return combined([*parts, digest_of(audio)] if audio.is_dir() else parts)

    def _make(self, settings: CorpusSettings, data: Path, work: Work) -> None:
        if settings.synth is not None:
            _synthesise(settings.synth, data, work)
        elif settings.digits is not None:
            compose_digits(
                data, settings.digits.hours, settings.digits.splits, settings.digits.seed
            )
        for name, manifest in (settings.manifests or {}).items():
            write_manifest(data / f"{name}.jsonl", read_manifest(manifest))
        for name, manifest in (settings.mismatched or {}).items():
            write_mismatched(read_manifest(manifest), data / f"{name}.jsonl")


def _synthesise(source: SynthSource, data: Path, work: Work) -> None:
    with work.show("Corpus", None, "utterances") as shown:
        synthesise(
            data,
            SynthSettings(**{name: getattr(source, name) for name in SynthSource.model_fields}),
            on_progress=lambda done, total: shown.update(done, total),
        )


def _first_hours(utterances: list[Utterance], hours: float) -> list[Utterance]:
    """The first utterances whose durations add up to ``hours``; at least one."""
    chosen: list[Utterance] = []
    seconds = 0.0
    for utterance in utterances:
        if chosen and seconds >= hours * 3600:
            break
        chosen.append(utterance)
        seconds += utterance.duration
    return chosen


def _facts(utterances: list[Utterance]) -> dict[str, float]:
    hours = sum(utterance.duration for utterance in utterances) / 3600
    return {"utterances": len(utterances), "hours": round(hours, 4)}
