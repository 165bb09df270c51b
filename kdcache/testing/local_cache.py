"""A cache of a small corpus, made in this process: for tests of what reads caches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcache.corpus import load_audio, read_manifest
from kdcache.store import CacheSpec, PackedUtterance, create_or_open, open_cache
from kdcache.target import make_target, target_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kdcache.store import Cache
    from kdcache.teacher import Teacher
    from kdcache.teacher.protocol import TeacherOutput
    from kdcache.types import Utterance


def write_cache(
    teacher: Teacher,
    manifest: str | Path,
    path: str | Path,
    targets: Sequence[str | Mapping[str, Any]],
    layout: str = "webdataset",
) -> Cache:
    """Ask the teacher about every utterance and commit the answers as one shard.

    Args:
        teacher: hears the utterances one by one.
        manifest: with transcripts; no audio is kept.
        path: of the cache.
        targets: as for ``kdcache extract``.
        layout: ``zarr`` or ``webdataset``.
    """
    specs = tuple(target_spec(given) for given in targets)
    spec = CacheSpec(teacher.spec, teacher.tokenizer.fingerprint, specs).normalised()
    writer = create_or_open(Path(path), spec, layout, teacher.tokenizer.files())
    packed = [_packed(teacher, utterance, spec) for utterance in read_manifest(manifest)]
    writer.commit("unit", sorted(packed, key=lambda one: one.utterance.id), [], "attempt")
    return open_cache(path)


def _packed(teacher: Teacher, utterance: Utterance, spec: CacheSpec) -> PackedUtterance:
    samples = load_audio(utterance.audio, teacher.spec.sample_rate)
    tokens = tuple(teacher.tokenizer.encode(utterance.text))
    (output,) = teacher.forward([samples], [tokens])
    output = replace(output, utterance=utterance.id, blank=teacher.spec.blank_id)
    columns, fidelity = _reduced(output, spec)
    seconds = len(samples) / teacher.spec.sample_rate
    return PackedUtterance(
        utterance,
        duration=seconds,
        tokens=tokens,
        frames=output.frames,
        columns=columns,
        fidelity=fidelity,
    )


def _reduced(output: TeacherOutput, spec: CacheSpec) -> tuple[dict[str, Any], dict[str, float]]:
    columns: dict[str, Any] = {}
    fidelity: dict[str, float] = {}
    for target in spec.targets:
        reduced = make_target(target).reduce(output, spec.codec(target.name))
        columns |= {f"{target.name}.{key}": value for key, value in reduced.columns.items()}
        fidelity |= {f"{target.name}.{key}": value for key, value in reduced.fidelity.items()}
    return columns, fidelity
