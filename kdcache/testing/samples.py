"""A small cache's worth of random utterances, for tests of stores and of what reads them."""

from __future__ import annotations

import numpy as np

from kdcache.codec import make_codec
from kdcache.store import CacheSpec, FailedUtterance, PackedUtterance
from kdcache.testing.records import random_record
from kdcache.types import AudioRef, TargetSpec, TeacherKind, TeacherSpec, Utterance

TOKENIZER_FILES = {"tokenizer.model": b"model \x00\xff bytes", "vocab.txt": b"<blk>\na\nb\n"}
"""Stands for a tokenizer's files."""


def sample_spec(*, audio: str = "none", floor: float = 16.0) -> CacheSpec:
    """A transducer's cache with one target of each kind of record."""
    teacher = TeacherSpec(
        name="sample-teacher",
        kind=TeacherKind.TRANSDUCER,
        vocab_size=100,
        blank_id=0,
        sample_rate=16_000,
        frame_shift=0.04,
        hidden_size=4,
        targets=("encoder_logits", "hidden", "lattice"),
        tokenizer="0" * 64,
        fingerprint="1" * 64,
    )
    targets = (
        TargetSpec("lattice", "lattice", "lattice", {"top_k": 2}, {"name": "log8", "floor": floor}),
        TargetSpec("encoder_logits", "encoder_logits", "posterior", {"top_k": 3}, {"name": "fp16"}),
        TargetSpec("hidden", "hidden", "vector", {}, {"name": "int8"}),
    )
    return CacheSpec(teacher=teacher, tokenizer="0" * 64, targets=targets, audio=audio).normalised()


def sample_utterance(utterance_id: str) -> Utterance:
    """An utterance whose fields depend on its id alone."""
    audio = AudioRef(f"/corpus/{utterance_id}.wav", duration=1.5)
    return Utterance(utterance_id, audio, text=f"text of {utterance_id}", speaker="s1")


def sample_packed(spec: CacheSpec, utterance_id: str, seed: int = 0) -> PackedUtterance:
    """A packed utterance whose contents depend on its id and the seed alone."""
    rng = np.random.default_rng([seed, *utterance_id.encode()])
    columns: dict[str, np.ndarray] = {}
    for target in spec.targets:
        arrays = make_codec(target.record, target.codec).encode(random_record(rng, target.record))
        columns |= {f"{target.name}.{name}": array for name, array in arrays.items()}
    if spec.audio == "flac":
        columns["audio"] = np.frombuffer(b"fLaC" + rng.bytes(50), np.uint8)
    return PackedUtterance(
        utterance=sample_utterance(utterance_id),
        duration=float(rng.uniform(1, 20)),
        tokens=[int(token) for token in rng.integers(1, 100, size=5)],
        frames=int(rng.integers(1, 100)),
        columns=columns,
        fidelity={"lattice.kl_mean": float(rng.uniform(0, 1e-3)), "lattice.kl_max": 0.01},
    )


def sample_failed(utterance_id: str) -> FailedUtterance:
    """A failed utterance."""
    return FailedUtterance(sample_utterance(utterance_id), "audio", f"{utterance_id}: truncated")
