"""Codebooks, trained before a cache is begun.

Codec ``codebooks`` packs vectors by a table that is part of the cache's spec, so that every actor
and every reader has the same. It is made once: from a sample of what the teacher says where there
is no cache yet, else taken from the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdcache.codec.quantised import CodebookVectorCodec
from kdcache.errors import ConfigError, NotACacheError, SpecMismatchError, TeacherError
from kdcache.extract.plan import plan_units
from kdcache.extract.tails import sample_of
from kdcache.extract.worker import UnitWorker
from kdcache.store import open_cache
from kdcache.target import Reduced, make_target
from kdcache.target.codebooks import VectorSample, train_codebooks
from kdcache.target.vector import VectorTarget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.extract.config import ExtractConfig
    from kdcache.teacher import Teacher, TeacherOutput
    from kdcache.types import TargetSpec, Utterance


@dataclass(frozen=True, slots=True)
class VectorListener:
    """In the place of a target: collects the vectors that the target would pack.

    Attributes:
        name: of the target.
        target: whose vectors are collected.
        sample: what keeps some of them.
    """

    name: str
    target: VectorTarget
    sample: VectorSample

    def pack(self, output: TeacherOutput) -> Reduced:
        """Listen to one utterance; nothing is packed."""
        self.sample.add(output.utterance, self.target.vectors(output))
        return Reduced({}, {})


def settle_codebooks(
    targets: Sequence[TargetSpec],
    config: ExtractConfig,
    teacher: Teacher,
    corpus: Sequence[Utterance],
) -> tuple[TargetSpec, ...]:
    """The targets, with a table wherever codebooks are asked for.

    Args:
        targets: as configured.
        config: where the cache is, and how large the sample.
        teacher: loaded.
        corpus: what the sample is taken from.

    Raises:
        ConfigError: the target is none of vectors.
        SpecMismatchError: the cache has other codebooks.
        TeacherError: the teacher fails on the whole sample.
    """
    waiting = {t.name: t for t in targets if _waits(t.codec)}
    if not waiting:
        return tuple(targets)
    tables = _held_tables(config.cache.path, waiting)
    if tables is None:
        tables = _trained_tables(waiting, config, teacher, sample_of(corpus, config))
    return tuple(
        replace(t, codec={**t.codec, "table": tables[t.name]}) if t.name in waiting else t
        for t in targets
    )


def _waits(codec: dict[str, Any]) -> bool:
    return codec.get("name") == CodebookVectorCodec.name and codec.get("table") is None


def _held_tables(path: str, waiting: dict[str, TargetSpec]) -> dict[str, Any] | None:
    """What the cache at ``path`` has for these targets; ``None`` where there is no cache."""
    try:
        held = {target.name: target.codec for target in open_cache(path).spec.targets}
    except NotACacheError:
        return None
    tables = {}
    for name, target in waiting.items():
        found, asked = held.get(name, {}), target.codec
        if any(found.get(key) != asked[key] for key in ("name", "count")):
            raise SpecMismatchError(
                f"{path} was made with other settings: target {name!r} has codec "
                f"{found.get('name')!r} with count {found.get('count')} in the cache, "
                f"{asked['name']!r} with count {asked['count']} was asked for; use these settings "
                "again, or another directory"
            )
        tables[name] = found["table"]
    return tables


def _trained_tables(
    waiting: dict[str, TargetSpec],
    config: ExtractConfig,
    teacher: Teacher,
    sample: Sequence[Utterance],
) -> dict[str, Any]:
    listeners = [_listener(target, len(sample)) for target in waiting.values()]
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
            f"Teacher {teacher.spec.name!r} fails on all {len(sample)} utterances on which "
            f"codebooks were to be trained: {why}"
        )
    return {
        listener.name: train_codebooks(
            listener.sample.vectors(), waiting[listener.name].codec["count"]
        ).to_dict()
        for listener in listeners
    }


def _listener(spec: TargetSpec, utterances: int) -> VectorListener:
    target = make_target(spec)
    if not isinstance(target, VectorTarget):
        raise ConfigError(f"Target {spec.name!r} has no vectors to train codebooks on.")
    return VectorListener(spec.name, target, VectorSample(utterances))
