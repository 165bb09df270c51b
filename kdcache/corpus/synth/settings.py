"""What a synthesised corpus is made of: the settings that fix every sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from kdcache.errors import ConfigError, did_you_mean

KINDS = ("sentences", "digits")
NOISES = ("white", "pink", "babble")
VERSION = 1
"""Raised whenever equal settings would give other samples than before."""

_WORDS = {"sentences": (4, 10), "digits": (3, 8)}
_SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


@dataclass(frozen=True, slots=True)
class SynthSettings:
    """Settings of a synthesised corpus; equal settings give equal samples.

    Attributes:
        kind: ``sentences`` from the grammar, or ``digits``: strings of spoken digits.
        splits: utterances of each split, by name.
        seed: of every choice.
        words: fewest and most words of an utterance; ``None`` means 4–10 for sentences and
            3–8 for digits.
        snr: lowest and highest signal-to-noise ratio in dB, speech against noise; ``None``
            means no noise.
        noises: kinds of noise to choose from: white, pink, babble.
        reverb: share of utterances with a synthetic room, 0 to 1.
        voices: number of voices (accent and speaker variant).
        held_out_voices: give every split voices of its own.
        rate: slowest and fastest speech, in words a minute.
        sample_rate: Hz of the audio files.
    """

    kind: str = "sentences"
    splits: dict[str, int] = field(default_factory=lambda: {"train": 1200, "dev": 150, "test": 150})
    seed: int = 7
    words: tuple[int, int] | None = None
    snr: tuple[float, float] | None = (5.0, 20.0)
    noises: tuple[str, ...] = NOISES
    reverb: float = 0.0
    voices: int = 40
    held_out_voices: bool = False
    rate: tuple[int, int] = (140, 200)
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        for noise in self.noises:
            _one_of("noise", noise, NOISES)
        self._refuse_bad_numbers()

    def _refuse_bad_numbers(self) -> None:
        _require(bool(self.noises) or self.snr is None, "noises", "none", "at least one of them")
        _require(bool(self.splits), "splits", "none", "at least one split")
        for name, count in self.splits.items():
            _require(name.isidentifier(), "split", repr(name), "a name of letters, digits and _")
            _require(count > 0, f"split {name}", count, "at least 1 utterance")
        low, high = self.word_range
        _require(1 <= low <= high <= 40, "words", f"{low}:{high}", "1 ≤ low ≤ high ≤ 40")
        low, high = self.rate
        _require(80 <= low <= high <= 450, "rate", f"{low}:{high}", "80 ≤ low ≤ high ≤ 450")
        if self.snr is not None:
            _require(
                self.snr[0] <= self.snr[1], "snr", f"{self.snr[0]}:{self.snr[1]}", "low ≤ high"
            )
        _require(0 <= self.reverb <= 1, "reverb", self.reverb, "0 to 1")
        _require(4_000 <= self.sample_rate <= 48_000, "sample rate", self.sample_rate, "4000–48000")

    @property
    def word_range(self) -> tuple[int, int]:
        """Fewest and most words of an utterance."""
        return self.words or _WORDS[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, with the version of the synthesis."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {**plain, "words": list(self.word_range), "version": VERSION}


def parse_splits(text: str | None, utterances: int | None) -> dict[str, int]:
    """``train=1200,dev=150,test=150`` as a dict; without it 80/10/10 % of ``utterances``.

    Raises:
        ConfigError: it cannot be read, or does not add up to ``utterances``.
    """
    if text is None:
        return _shared_out(utterances or 1500)
    splits: dict[str, int] = {}
    for part in text.split(","):
        name, _, count = (word.strip() for word in part.partition("="))
        if not count.isdigit() or name in splits:
            raise ConfigError(f"Got split {part!r}, expected each once, as in train=1200,test=150.")
        splits[name] = int(count)
    if utterances is not None and sum(splits.values()) != utterances:
        raise ConfigError(
            f"Got --utterances {utterances}, and splits that add up to {sum(splits.values())}; "
            "give one of them, or make them agree."
        )
    return splits


def parse_range(name: str, text: str) -> tuple[float, float]:
    """``5:20`` as (5.0, 20.0); a single number stands for both ends.

    Raises:
        ConfigError: it cannot be read.
    """
    low, _, high = text.partition(":")
    try:
        return float(low), float(high or low)
    except ValueError as error:
        raise ConfigError(f"Got {name} {text!r}, expected a range such as 5:20.") from error


def parse_int_range(name: str, text: str) -> tuple[int, int]:
    """``4:10`` as (4, 10); a single number stands for both ends.

    Raises:
        ConfigError: it cannot be read.
    """
    low, _, high = text.partition(":")
    try:
        return int(low), int(high or low)
    except ValueError as error:
        raise ConfigError(f"Got {name} {text!r}, expected a range such as 4:10.") from error


def _shared_out(total: int) -> dict[str, int]:
    small = {name: round(total * share) for name, share in _SHARES.items() if name != "train"}
    return {"train": total - sum(small.values()), **small}


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        hint = did_you_mean(value, known)
        raise ConfigError(f"Got {name} {value!r}, expected one of {', '.join(known)}.{hint}")


def _require(good: bool, name: str, got: object, expected: str) -> None:
    if not good:
        raise ConfigError(f"Got {name} {got}, expected {expected}.")
