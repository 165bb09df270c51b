"""Which settings are tried for a target with a goal: the one place to add a codec's.

A family yields settings of a target and of its codec. What the configuration fixed is laid over
both; what then cannot be (a combination that a target refuses, more classes than the teacher
has, another codec than the fixed one) is none.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

from kdcache.codec import RootLatticeCodec
from kdcache.errors import ConfigError, UnsupportedTargetError
from kdcache.extract.targets import bind_targets
from kdcache.target import target_spec
from kdcache.types import TargetSpec, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kdcache.extract.goals import Asked
    from kdcache.types import TeacherSpec

    Settings = dict[str, Any]
    Family = Callable[[Asked], Iterator[tuple[Settings, Settings]]]

BITS = range(2, 13)
SHARES = (0.5, 0.65, 0.8, 1.2, 2.0, 3.0, 5.0)
"""Least probability in squares of the codec's step. What loses least for its size lies below 1.2,
with very fine steps above; and between two steps, of which one loses four times as much, the
larger shares fill the gap."""

CLASSES = (1, 2, 4, 8, 16, 32, 64)
MORE_CLASSES = (0, *CLASSES)
DRAWS = tuple(2**n for n in range(2, 13))
OUTSIDE = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Bands' epsilons, in goals: an utterance's share outside is mostly far below the largest."""

WIDTHS = (2, 3, 4, 5, 6, 8)

LATTICE_CODECS: tuple[dict[str, Any], ...] = (
    {"name": "log8"},
    {"name": "log8", "floor": 12.0},
    {"name": "log8", "floor": 24.0},
    {"name": "fp16"},
)

STEPS = (0.12, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
"""Steps of √p of a node's classes, over the root of the goal: what is lost falls with their
square. Three classes of a teacher that is mostly certain take about half of it, of which a band
that uses up some of the goal asks for more; many classes of an uncertain one ask for four."""

BETWEEN = (0.84, 0.92, 1.0, 1.09, 1.19)
"""Steps to look at more closely, in those of a candidate that is near the goal."""

TAILS = {("posterior", "root"): (None, "prior", "top")}
"""Models of the rest that a codec may carry, by kind of record and its name."""


def candidates(asked: Asked, teacher: TeacherSpec) -> list[TargetSpec]:
    """Settings to measure, none twice; the target as it would be without a goal among them,
    unless it says ``auto``.

    Those with a model of the rest that is still to be estimated are left out: see
    :func:`with_tails`.
    """
    first = [] if asked.auto else [_plain(asked.base)]
    found = {canonical_json(spec.to_dict()): spec for spec in first}
    for family in FAMILIES.get(asked.base.record, ()):
        for settings, codec in family(asked):
            spec = _laid_over(asked, settings, codec, teacher)
            if spec is not None:
                found.setdefault(canonical_json(spec.to_dict()), spec)
    return list(found.values())


def tails(asked: Asked, spec: TargetSpec) -> tuple[str | None, ...]:
    """Models of the rest to try with ``spec``; ``None`` for none, or for the one it has."""
    fixed = asked.codec.get("tail")
    if isinstance(fixed, str):
        return (fixed,)
    return (
        (None,) if "tail" in asked.codec else TAILS.get((spec.record, spec.codec["name"]), (None,))
    )


def between(asked: Asked, spec: TargetSpec) -> list[TargetSpec]:
    """``spec`` and what lies between it and its neighbours among the candidates."""
    if (spec.record, spec.codec["name"]) != ("lattice", "root") or "steps" in asked.codec:
        return [spec]
    counts = _whole_steps(share * spec.codec["steps"] for share in BETWEEN)
    return [replace(spec, codec={**spec.codec, "steps": count}) for count in counts]


def _laid_over(
    asked: Asked, settings: Settings, codec: Settings, teacher: TeacherSpec
) -> TargetSpec | None:
    if codec["name"] != asked.codec.get("name", codec["name"]):
        return None
    base = asked.base
    entry = {"kind": base.kind, "name": base.name, "settings": {**settings, **asked.settings}}
    try:
        spec = _plain(target_spec({**entry, "codec": {**codec, **asked.codec}}))
        bind_targets([spec], teacher)
    except (ConfigError, UnsupportedTargetError):
        return None
    return spec


def _plain(spec: TargetSpec) -> TargetSpec:
    """Without the kind of a model that is not there yet."""
    if not isinstance(spec.codec.get("tail"), str):
        return spec
    return replace(spec, codec={k: v for k, v in spec.codec.items() if k != "tail"})


def _ragged(asked: Asked) -> Iterator[tuple[Settings, Settings]]:
    """As many classes of a row as it needs, entropy-coded."""
    if not asked.draws:
        for bits, share in product(BITS, SHARES):
            least = float(f"{share * 4.0**-bits:.1e}")
            yield {"min_p": least}, {"name": "root", "bits": bits}


def _slots(asked: Asked) -> Iterator[tuple[Settings, Settings]]:
    """As many classes of every row, and all of them."""
    if not asked.draws:
        for count in CLASSES:
            yield {"top_k": count}, {"name": "log8"}
        yield {"top_k": "all"}, {"name": "log8"}
        yield {"top_k": "all"}, {"name": "fp16"}


def _draws(asked: Asked) -> Iterator[tuple[Settings, Settings]]:
    """Random draws, where these are asked for."""
    if "samples" in asked.auto:
        for count in DRAWS:
            yield {"samples": count}, {"name": "count", "samples": count}


def _lattices(asked: Asked) -> Iterator[tuple[Settings, Settings]]:
    """Bands, classes and codecs."""
    bands: list[Settings] = [{}]
    if asked.band:
        shares = (float(f"{part * asked.max_kl:.1e}") for part in OUTSIDE)
        bands = [{"epsilon": share} for share in shares if share < 1]
        bands += [{"width": width} for width in WIDTHS]
    counts = MORE_CLASSES if "top_k" in asked.auto else (0,)
    codecs = (*LATTICE_CODECS, *({"name": "root", "steps": n} for n in _steps(asked.max_kl)))
    for band, count, codec in product(bands, counts, codecs):
        yield {"top_k": count, **band}, codec


def _steps(goal: float) -> list[int]:
    """Steps of a lattice's codec that may be just enough for a goal."""
    return _whole_steps(share / sqrt(goal) for share in STEPS)


def _whole_steps(counts: Iterable[float]) -> list[int]:
    """Whole numbers of steps that the codec takes, none twice."""
    fewest, most = RootLatticeCodec.fewest, RootLatticeCodec.most
    return sorted({min(max(round(count), fewest), most) for count in counts})


FAMILIES: dict[str, tuple[Family, ...]] = {
    "posterior": (_ragged, _slots, _draws),
    "lattice": (_lattices,),
}
"""By kind of record; records of other kinds are measured as they were asked for."""
