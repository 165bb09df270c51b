"""The voices of the synthesised corpus: English accents × espeak-ng's speaker variants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.corpus.synth.rng import random_state
from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from kdcache.corpus.synth.settings import SynthSettings

ACCENTS = (
    "en-us",
    "en",  # British
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-us-nyc",
    "en-029",  # Caribbean
)
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
ALL_VOICES = tuple(f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS)


def voices_of_splits(settings: SynthSettings) -> dict[str, tuple[str, ...]]:
    """The voices that each split draws from; disjoint where they are held out.

    With held-out voices, each split but the first gets a tenth of them, at least one, and
    the first gets the rest.

    Raises:
        ConfigError: there are not that many voices, or too few to hold any out.
    """
    chosen = _shuffled(settings.seed)[: settings.voices]
    least = len(settings.splits) if settings.held_out_voices else 1
    if not least <= settings.voices <= len(ALL_VOICES):
        raise ConfigError(
            f"Got {settings.voices} voices, expected {least} to {len(ALL_VOICES)}"
            + (": a split each." if settings.held_out_voices else ".")
        )
    if not settings.held_out_voices:
        return dict.fromkeys(settings.splits, chosen)
    return _divided(chosen, list(settings.splits))


def _divided(voices: tuple[str, ...], splits: list[str]) -> dict[str, tuple[str, ...]]:
    share = max(1, len(voices) // 10)
    cut = len(voices) - share * (len(splits) - 1)
    if cut < 1:
        share, cut = 1, len(voices) - (len(splits) - 1)
    rest = [voices[cut + i * share : cut + (i + 1) * share] for i in range(len(splits) - 1)]
    return dict(zip(splits, [voices[:cut], *rest], strict=True))


def _shuffled(seed: int) -> tuple[str, ...]:
    order = random_state(seed, "voices").permutation(len(ALL_VOICES))
    return tuple(ALL_VOICES[i] for i in order)
