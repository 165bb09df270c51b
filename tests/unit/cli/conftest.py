"""A small cache of random posteriors, in both layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.store import CacheSpec, FailedUtterance, PackedUtterance, create_or_open
from kdcache.testing.records import random_lattice, random_posterior
from kdcache.types import AudioRef, TargetSpec, TeacherKind, TeacherSpec, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import CacheWriter

TEACHER = TeacherSpec(
    name="tiny",
    kind=TeacherKind.TRANSDUCER,
    vocab_size=100,
    blank_id=0,
    sample_rate=16_000,
    frame_shift=0.04,
    hidden_size=8,
    targets=("encoder_logits", "lattice"),
    tokenizer="b" * 64,
    fingerprint="a" * 64,
)
TARGETS = (
    TargetSpec("lattice", "lattice", "lattice", {"top_k": 2}, {"name": "log8"}),
    TargetSpec("ctc", "encoder_logits", "posterior", {"top_k": 3}, {"name": "fp16"}),
)


def utterance(name: str) -> Utterance:
    return Utterance(name, AudioRef(f"{name}.wav", 0.0, 1.8), f"say {name}", "ada")


def packed(writer: CacheWriter, name: str, seed: int) -> PackedUtterance:
    """An utterance of 5 frames and 2 labels, 1.8 seconds long."""
    rng = np.random.default_rng(seed)
    records = {"lattice": random_lattice(rng, 5, 2, 2), "ctc": random_posterior(rng, 5, 3)}
    columns = {
        f"{target}.{array}": values
        for target, record in records.items()
        for array, values in writer.spec.codec(target).encode(record).items()
    }
    fidelity = {"lattice.kl_mean": 0.25 * seed, "lattice.kl_max": 1.0 * seed}
    return PackedUtterance(utterance(name), 1.8, (7, 9), 5, columns, fidelity)


@pytest.fixture(params=["zarr", "webdataset"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three good utterances (a, b, c) in two units, and two that failed."""
    path = tmp_path / "cache"
    spec = CacheSpec(TEACHER, TEACHER.tokenizer, TARGETS)
    writer = create_or_open(path, spec, request.param, {"vocab.json": b"{}"})
    broken = FailedUtterance(utterance("broken"), "audio", "the file is truncated")
    silent = FailedUtterance(utterance("silent"), "transcript", "the text is empty")
    writer.commit("u0", [packed(writer, "a", 1), packed(writer, "b", 2)], [broken], "first")
    writer.commit("u1", [packed(writer, "c", 3)], [silent], "first")
    return path
