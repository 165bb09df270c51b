"""Models of the rest, estimated before a cache is begun.

A codec may ask for a model by its kind (``tail: prior``). Its table is part of the cache's spec,
so that every actor and every reader has the same. It is made once: from a sample of what the
teacher says where there is no cache yet, else taken from the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError, NotACacheError, SpecMismatchError, TeacherError
from kdcache.extract.plan import plan_units
from kdcache.extract.worker import UnitWorker
from kdcache.store import open_cache
from kdcache.target import Reduced, make_target
from kdcache.target.posterior import PosteriorTarget
from kdcache.target.tail import TailEstimator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.extract.config import ExtractConfig
    from kdcache.teacher import Teacher, TeacherOutput
    from kdcache.types import TargetSpec, Utterance


@dataclass(frozen=True, slots=True)
class Listener:
    """In the place of a target: tells an estimator what the target would leave.

    Attributes:
        name: of the target.
        target: whose settings decide what is left.
        estimator: what adds it up.
    """

    name: str
    target: PosteriorTarget
    estimator: TailEstimator

    def pack(self, output: TeacherOutput) -> Reduced:
        """Listen to one utterance; nothing is packed."""
        self.target.observe(output, self.estimator)
        return Reduced({}, {})


def settle_tails(
    targets: Sequence[TargetSpec],
    config: ExtractConfig,
    teacher: Teacher,
    corpus: Sequence[Utterance],
) -> tuple[TargetSpec, ...]:
    """The targets, with a table in the place of every kind of tail.

    Args:
        targets: as configured.
        config: where the cache is, and how large the sample.
        teacher: loaded.
        corpus: what the sample is taken from.

    Raises:
        ConfigError: the target is none of posteriors.
        SpecMismatchError: the cache has a model of another kind.
        TeacherError: the teacher fails on the whole sample.
    """
    waiting = {t.name: t for t in targets if isinstance(t.codec.get("tail"), str)}
    if not waiting:
        return tuple(targets)
    tables = _held_tables(config.cache.path, waiting)
    if tables is None:
        tables = _estimated_tables(waiting, config, teacher, sample_of(corpus, config))
    return tuple(
        replace(t, codec={**t.codec, "tail": tables[t.name]}) if t.name in waiting else t
        for t in targets
    )


def sample_of(corpus: Sequence[Utterance], config: ExtractConfig) -> list[Utterance]:
    """Evenly spaced utterances; all of a corpus that has no more."""
    count = min(config.sample_utterances, len(corpus))
    return [corpus[index * len(corpus) // count] for index in range(count)]


def _held_tables(
    path: str, waiting: dict[str, TargetSpec]
) -> dict[str, dict[str, object] | str] | None:
    """What the cache at ``path`` has for these targets; ``None`` where there is no cache."""
    try:
        held = {target.name: target.codec for target in open_cache(path).spec.targets}
    except NotACacheError:
        return None
    tables: dict[str, dict[str, object] | str] = {}
    for name, target in waiting.items():
        asked, found = target.codec["tail"], held.get(name, {}).get("tail")
        kind = found.get("kind") if isinstance(found, dict) else found
        if not isinstance(found, dict) or kind != asked:
            raise SpecMismatchError(
                f"{path} was made with other settings: the codec of target {name!r} has tail "
                f"{kind!r} in the cache, {asked!r} was asked for; use these settings again, or "
                "another directory"
            )
        tables[name] = found
    return tables


def _estimated_tables(
    waiting: dict[str, TargetSpec],
    config: ExtractConfig,
    teacher: Teacher,
    sample: Sequence[Utterance],
) -> dict[str, dict[str, object] | str]:
    listeners = [_listener(target, teacher) for target in waiting.values()]
    worker = UnitWorker(teacher, listeners, decode_threads=config.decode_threads)
    plan = plan_units(
        sample,
        spec="",
        unit_utterances=config.unit_utterances,
        batch_seconds=config.batch_seconds,
    )
    results = [worker.run(unit) for unit in plan.units]
    if not any(result.packed for result in results):
        why = next((failed.message for result in results for failed in result.failed), "")
        raise TeacherError(
            f"Teacher {teacher.spec.name!r} fails on all {len(sample)} utterances from which the "
            f"tail was to be estimated: {why}"
        )
    return {listener.name: listener.estimator.model().to_dict() for listener in listeners}


def _listener(spec: TargetSpec, teacher: Teacher) -> Listener:
    target = make_target(spec)
    if not isinstance(target, PosteriorTarget):
        raise ConfigError(f"Target {spec.name!r} has no posteriors of which to model the tail.")
    estimator = TailEstimator(spec.codec["tail"], teacher.spec.vocab_size)
    return Listener(spec.name, target, estimator)
