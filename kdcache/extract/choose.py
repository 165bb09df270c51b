"""The cheapest settings within a goal, found on a sample of what the teacher says.

The sample's halves do different work, so that nothing is judged by what it was made from:

1. On some of the first half every candidate is measured, without a model of the rest. Those near
   the goal go on.
2. Models of the rest are estimated for these, on the first half; and of lattices in steps of √p
   steps between those of the candidates are added.
3. On the second half all of these are measured. The cheapest is taken of those whose mean, with
   1.645 standard errors on top, is within the goal.

Where none is, finer candidates get their turn in order of size; where these fail as well the
goal cannot be reached, and the least that can is said.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite, log
from typing import TYPE_CHECKING, NamedTuple

from kdcache.errors import ConfigError
from kdcache.extract.candidates import between, candidates, tails
from kdcache.extract.measure import by_settings, measure
from kdcache.inspect.choices import settings_text
from kdcache.store import Choice, Considered
from kdcache.target import make_target
from kdcache.target.posterior import PosteriorTarget
from kdcache.target.tail import TailEstimator
from kdcache.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from kdcache.extract.goals import Asked
    from kdcache.extract.measure import Measured, Sample
    from kdcache.types import TargetSpec, TeacherSpec

    Steps = Generator[tuple[int, int], None, list[Measured]]

LIST = 10
"""Candidates that go on to the second half, before their models of the rest."""

ROUGH = 12
"""Utterances that every candidate is measured on before."""

_LOSES = 3.0
"""A candidate of so many times the goal may yet come within it, by a model of the rest."""

_COSTS = 1.5
"""One that takes so much more than the cheapest within the goal will hardly be picked."""

_CLEAR = 0.9
"""One that is beaten by more than this in both bytes and loss is not looked at again."""

_CHEAPER, _DEARER = 3, 2
"""Neighbours of the picked one that are told beside it."""


class Chosen(NamedTuple):
    """What a search found."""

    spec: TargetSpec
    choice: Choice


def choose(
    asked: Asked, teacher: TeacherSpec, sample: Sample, corpus_hours: float
) -> Generator[tuple[int, int], None, Chosen]:
    """Search; yields how many settings are measured, of how many that are known of yet.

    Args:
        asked: the target, what is fixed of it, and the goal.
        teacher: whose answers the sample holds.
        sample: at least one utterance.
        corpus_hours: over which a table in the settings is spread; 0 where nobody knows.

    Raises:
        ConfigError: no candidate is within the goal.
    """
    first, second = sample.halves()

    def count(specs: Sequence[TargetSpec], half: Sample, done: int, more: int = 0) -> Steps:
        found: list[Measured] = []
        for group in by_settings(specs):
            found += measure(group, half, asked, corpus_hours)
            yield done + len(found), done + len(specs) + more
        return found

    plain = candidates(asked, teacher)
    rough = yield from count(plain, first.some(ROUGH), 0, LIST)
    near = shortlist(rough, asked.max_kl)
    close = [spec for m in near for spec in between(asked, m.spec)]
    specs = [s for spec in _once(close) for s in _with_tails(asked, spec, first, teacher)]
    found = yield from count(specs, second, len(plain))
    for spec in _finer(rough, near, asked.max_kl):
        if _within(found, asked.max_kl):
            break
        more = _with_tails(asked, spec, first, teacher)
        found += yield from count(more, second, len(plain) + len(found))
    tried = len(plain) + sum(m.spec not in plain for m in found)
    picked = _pick(asked, found, tried, len(second.outputs))
    return Chosen(picked.spec, _choice(asked, picked, found, tried, sample))


def shortlist(rough: Sequence[Measured], goal: float) -> list[Measured]:
    """Candidates that the goal may decide between; the finest where none comes near it."""
    enough = min((m.bytes_per_hour for m in rough if m.mean <= goal), default=float("inf"))
    near = [m for m in rough if m.mean <= _LOSES * goal and m.bytes_per_hour <= _COSTS * enough]
    near = [m for m in near if not any(_beats(other, m) for other in near)]
    # Settings that come to the same, as a greater epsilon to the same band, are told by one.
    near = list({(m.bytes_per_hour, m.mean): m for m in reversed(near)}.values())[::-1]
    near.sort(key=lambda m: (abs(log(max(m.mean, 1e-30) / goal)), m.bytes_per_hour))
    return near[:LIST] or [min(rough, key=lambda m: (m.mean, m.bytes_per_hour))]


def _once(specs: Sequence[TargetSpec]) -> list[TargetSpec]:
    return list({canonical_json(spec.to_dict()): spec for spec in specs}.values())


def _beats(one: Measured, other: Measured) -> bool:
    smaller = one.bytes_per_hour < _CLEAR * other.bytes_per_hour
    return smaller and one.mean < _CLEAR * other.mean


def _finer(rough: Sequence[Measured], near: Sequence[Measured], goal: float) -> list[TargetSpec]:
    """What may still be within the goal where the shortlist is not: by size, the finest last."""
    left = [m for m in rough if m not in near]
    within = sorted((m for m in left if m.mean <= goal), key=lambda m: m.bytes_per_hour)
    finest = min(rough, key=lambda m: (m.mean, m.bytes_per_hour))
    last = [finest] if finest in left and finest not in within else []
    return [m.spec for m in [*within, *last]]


def _with_tails(
    asked: Asked, spec: TargetSpec, sample: Sample, teacher: TeacherSpec
) -> list[TargetSpec]:
    """``spec`` with every model of the rest that is to be tried, estimated from ``sample``."""
    made = []
    for kind in tails(asked, spec):
        if kind is None:
            made.append(spec)
            continue
        target, estimator = make_target(spec), TailEstimator(kind, teacher.vocab_size)
        assert isinstance(target, PosteriorTarget)
        for output in sample.outputs:
            target.observe(output, estimator)
        table = estimator.model().to_dict()
        made.append(replace(spec, codec={**spec.codec, "tail": table}))
    return made


def _within(found: Sequence[Measured], goal: float) -> list[Measured]:
    return [m for m in found if m.upper <= goal]


def _pick(asked: Asked, found: Sequence[Measured], tried: int, heard: int) -> Measured:
    within = _within(found, asked.max_kl)
    if within:
        return min(within, key=lambda m: (m.bytes_per_hour, m.upper))
    best = min(found, key=lambda m: (m.upper, m.bytes_per_hour))
    setting = settings_text(best.spec.settings, best.spec.codec)
    fixed = settings_text(asked.settings, asked.codec)
    instead = f"raise the goal, or fix less than {fixed}" if fixed else "raise the goal"
    raise ConfigError(
        f"No setting of target {asked.name!r} is within max_kl {asked.max_kl:g}: the best of "
        f"{tried} on {heard} utterance(s), {setting}, loses {best.mean:.3g} nats, "
        f"{best.upper:.3g} with its margin, and takes {best.bytes_per_hour / 1e6:.3g} MB per hour "
        f"of audio; {instead}."
    )


def _named(value: object) -> object:
    """Of a table, which may be long, its kind alone."""
    return value.get("kind", "…") if isinstance(value, dict) else value


def _choice(
    asked: Asked, picked: Measured, found: Sequence[Measured], tried: int, sample: Sample
) -> Choice:
    front = [m for m in found if m is not picked and isfinite(m.mean) and _on_front(m, found)]
    front.sort(key=lambda m: m.bytes_per_hour)
    cheaper = [m for m in front if m.bytes_per_hour < picked.bytes_per_hour][-_CHEAPER:]
    dearer = [m for m in front if m.bytes_per_hour >= picked.bytes_per_hour][:_DEARER]
    return Choice(
        target=asked.name,
        max_kl=asked.max_kl,
        measure=asked.measure,
        band=asked.band,
        asked=asked.fixed,
        candidates=tried,
        utterances=len(sample.outputs),
        hours=_short(sample.halves()[1].hours),
        picked=_considered(picked),
        others=tuple(_considered(m) for m in [*cheaper, *dearer]),
    )


def _on_front(one: Measured, found: Sequence[Measured]) -> bool:
    """Nothing that was measured is no larger and loses no more, and one of the two less."""
    place = (one.bytes_per_hour, one.mean)
    others = ((m.bytes_per_hour, m.mean) for m in found)
    return not any(o != place and o[0] <= place[0] and o[1] <= place[1] for o in others)


def _considered(m: Measured) -> Considered:
    codec = {name: _named(value) for name, value in m.spec.codec.items()}
    figures = map(_short, (m.bytes_per_hour, m.mean, m.upper, m.p99))
    return Considered(m.spec.settings, codec, *figures)


def _short(value: float) -> float:
    """Six digits: more would say nothing, and depend on the machine."""
    return float(f"{value:.6g}")
