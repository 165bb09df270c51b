"""Views: the same utterance faster or slower.

Speed perturbation (Ko et al. 2015, "Audio augmentation for speech recognition") plays samples at
another rate, so that tempo and pitch change alike. Since the time axis changes, a teacher is asked
anew for every view, and a target of one view fits the audio of no other. So a view is an utterance
of its own: its id ends in the speed (``1188-133604-0003-sp0.9``), and its ``AudioRef`` says how
fast to play what it points at, which whoever decodes it does.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kdcache.types import Utterance

SLOWEST, FASTEST = 0.25, 4.0
"""Speeds beyond these are mistakes."""

_SUFFIX = re.compile(r"(.+)-sp(\d+(?:\.\d+)?)")


def view_of(utterance: Utterance, speed: float) -> Utterance:
    """The utterance at ``speed`` times its own; at 1 it is the utterance itself.

    Raises:
        ConfigError: the speed is out of range.
    """
    check_speed(speed)
    if speed == 1:
        return utterance
    audio = replace(utterance.audio, speed=utterance.audio.speed * speed)
    return replace(utterance, id=f"{utterance.id}-sp{speed:g}", audio=audio)


def iter_views(utterances: Iterable[Utterance], speeds: Iterable[float]) -> Iterator[Utterance]:
    """Every view of every utterance, view by view of each.

    Raises:
        ConfigError: a speed is out of range.
    """
    wanted = tuple(speeds)
    for utterance in utterances:
        for speed in wanted:
            yield view_of(utterance, speed)


def parse_view(name: str) -> tuple[str, float] | None:
    """Id and speed that :func:`view_of` made ``name`` from; ``None`` for any other id."""
    found = _SUFFIX.fullmatch(name)
    if found is None or not SLOWEST <= float(found[2]) <= FASTEST:
        return None
    return found[1], float(found[2])


def check_speed(speed: float) -> None:
    """Raise ConfigError unless speech at that speed is still speech."""
    if not SLOWEST <= speed <= FASTEST:
        raise ConfigError(
            f"The speed of a view is {speed:g}; expected {SLOWEST:g} to {FASTEST:g}, such as 0.9."
        )
