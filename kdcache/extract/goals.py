"""Targets as configured: settled, or with a goal for which the settings are still to be chosen.

With ``max_kl`` a target says how much may be lost, in nats a frame, token or node, and leaves
open how it is kept and packed. What is written beside it is fixed, and what is not is open.

What counts against the goal is what the catalogue records. Of posteriors it is the divergence
over the whole vocabulary (``kl_full_mean``). A lattice is asked for with the classes that are
wanted of a node (``top_k``, by default blank, label and rest alone), so that it is the divergence
over these (``kl_mean``); ``top_k: auto`` leaves them open, and then the whole vocabulary counts.
Random draws (``samples``) have an infinite divergence and are measured the other way round
(``kl_sampled_mean``).

A band that is left open pays for what it leaves out. With o the share of the occupancy that
lies outside, the teacher's distribution over the nodes of a step and the same confined to the
band are −ln(1 − o) nats apart; this is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError
from kdcache.target import target_spec
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GOAL = "max_kl"
AUTO = "auto"

DIVERGENT = ("lattice", "posterior")
"""Records that are distributions: of others a goal in nats says nothing."""

_OF_TARGET = ("name", "kind", "record", "settings", "codec", GOAL)
_BAND = ("epsilon", "width")


@dataclass(frozen=True, slots=True)
class Asked:
    """A target whose settings are to be chosen.

    Attributes:
        base: with what is fixed, and defaults for all that is open.
        settings, codec: what is fixed; ``None`` is a value too.
        auto: settings that were written down as open.
        max_kl: the goal, nats a frame, token or node.
    """

    base: TargetSpec
    settings: dict[str, Any]
    codec: dict[str, Any]
    auto: frozenset[str]
    max_kl: float

    @property
    def name(self) -> str:
        """The target's, in the cache."""
        return self.base.name

    @property
    def measure(self) -> str:
        """The divergence that counts, as the catalogue calls it, without ``_mean``."""
        if self.draws:
            return "kl_sampled"
        return "kl" if self.base.record == "lattice" and "top_k" not in self.auto else "kl_full"

    @property
    def draws(self) -> bool:
        """Whether random draws are kept."""
        return "samples" in self.auto or self.settings.get("samples") is not None

    @property
    def band(self) -> bool:
        """Whether the band of a lattice is open."""
        return self.base.record == "lattice" and not self.settings.keys() & set(_BAND)

    @property
    def fixed(self) -> dict[str, Any]:
        """JSON-ready: what a cache must have been asked for to be the same."""
        return {"settings": self.settings, "codec": self.codec, "auto": sorted(self.auto)}


Wanted = TargetSpec | Asked
"""A target that is settled, but perhaps for its model of the rest; or one with a goal."""


def parse_wanted(
    items: Iterable[str | Mapping[str, Any]], max_kl: float | None = None
) -> tuple[Wanted, ...]:
    """Targets of the configuration.

    Args:
        items: names of kinds, or mappings.
        max_kl: goal for those of posteriors that have none of their own.

    Raises:
        ConfigError: an unknown kind, setting or codec; a goal that is no number of nats, or of
            a target that has no divergence; a goal for all where none has one.
    """
    wanted = tuple(_parse({"kind": i} if isinstance(i, str) else dict(i), max_kl) for i in items)
    if max_kl is not None and not any(isinstance(item, Asked) for item in wanted):
        kinds = ", ".join(item.kind for item in wanted if isinstance(item, TargetSpec))
        raise ConfigError(
            f"max_kl is given, but no target has a divergence ({kinds}); leave it out, or add "
            "targets such as lattice or encoder_logits."
        )
    return wanted


def _parse(entry: dict[str, Any], goal_of_all: float | None) -> Wanted:
    own = entry.pop(GOAL, None)
    goal = goal_of_all if own is None else own
    if goal is None:
        return target_spec(entry)
    entry, auto = _without_auto(entry)
    base = target_spec(entry)
    if base.record not in DIVERGENT:
        if own is not None:
            raise ConfigError(
                f"Target {base.name!r} has a max_kl, but keeps {base.record} records, which have "
                "no divergence; leave max_kl out."
            )
        return base
    settings = {k: v for k, v in entry.items() if k not in _OF_TARGET}
    settings |= entry.get("settings") or {}
    codec = entry.get("codec") or {}
    codec = {"name": codec} if isinstance(codec, str) else codec
    return Asked(base, settings, codec, auto, _parse_goal(goal, base.name))


def _without_auto(entry: dict[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """The entry without settings that say ``auto``, and their names."""
    nested = entry.get("settings") or {}
    beside = {k for k, v in entry.items() if k not in _OF_TARGET and v == AUTO}
    within = {k for k, v in nested.items() if v == AUTO} if isinstance(nested, dict) else set()
    kept = {k: v for k, v in entry.items() if k not in beside}
    if within:
        kept["settings"] = {k: v for k, v in nested.items() if k not in within}
    return kept, frozenset(beside | within)


def _parse_goal(goal: object, name: str) -> float:
    if isinstance(goal, bool) or not isinstance(goal, int | float) or not 0 < goal < float("inf"):
        raise ConfigError(
            f"max_kl of target {name!r} is {goal!r}; expected nats a frame, token or node, above "
            "0, such as 0.001."
        )
    return float(goal)
