"""Every built-in codec keeps the codec's contract, and so does one from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kdcache.codec import Codebooks, ColumnSpec, VectorRecord
from kdcache.errors import TeacherOutputError
from kdcache.testing.codec_contract import CodecContract


class TestLatticeFp16(CodecContract):
    record = "lattice"
    settings: ClassVar = {"name": "fp16"}


class TestLatticeLog8(CodecContract):
    record = "lattice"
    settings: ClassVar = {"name": "log8"}


class TestLatticeLog8Shallow(CodecContract):
    record = "lattice"
    settings: ClassVar = {"name": "log8", "floor": 6}


class TestLatticeRoot(CodecContract):
    record = "lattice"
    settings: ClassVar = {"name": "root"}


class TestLatticeRootCoarse(CodecContract):
    record = "lattice"
    settings: ClassVar = {"name": "root", "steps": 2}


class TestLatticeRootFine(CodecContract):
    record = "lattice"
    settings: ClassVar = {"name": "root", "steps": 1024}


class TestPosteriorFp16(CodecContract):
    record = "posterior"
    settings: ClassVar = {"name": "fp16"}


class TestPosteriorLog8(CodecContract):
    record = "posterior"
    settings: ClassVar = {"name": "log8", "floor": 16}


class TestPosteriorRoot(CodecContract):
    record = "posterior"
    settings: ClassVar = {"name": "root"}


class TestPosteriorRootCoarse(CodecContract):
    record = "posterior"
    settings: ClassVar = {"name": "root", "bits": 2}


class TestPosteriorCount(CodecContract):
    record = "posterior"
    settings: ClassVar = {"name": "count", "samples": 64}


class TestVectorFp16(CodecContract):
    record = "vector"
    settings: ClassVar = {"name": "fp16"}


class TestVectorInt8(CodecContract):
    record = "vector"
    settings: ClassVar = {"name": "int8"}


class TestVectorCodebooks(CodecContract):
    """Random codebooks, of the width that random vectors have."""

    record = "vector"
    settings: ClassVar = {
        "name": "codebooks",
        "count": 3,
        "table": Codebooks.from_values(
            np.random.default_rng(0).normal(size=(3, 256, 4)), np.ones(4)
        ).to_dict(),
    }


class TestScoreFp32(CodecContract):
    record = "score"
    settings: ClassVar = {"name": "fp32"}


class TestHypothesesFp32(CodecContract):
    record = "hypotheses"
    settings: ClassVar = {"name": "fp32"}


@dataclass(frozen=True)
class ExactVectors:
    """A third party's codec: float32 as it is."""

    record: str

    def columns(self) -> dict[str, ColumnSpec]:
        return {"values": ColumnSpec("float32", 2)}

    def encode(self, record: VectorRecord) -> dict[str, np.ndarray]:
        if not np.isfinite(record.values_TD).all():
            raise TeacherOutputError("NaN among the vectors")
        return {"values": np.ascontiguousarray(record.values_TD)}

    def decode(self, columns: dict[str, np.ndarray]) -> VectorRecord:
        return VectorRecord(columns["values"].astype(np.float32))

    def error_bound(self, record: VectorRecord) -> np.ndarray:
        return np.zeros_like(record.values_TD)

    def to_dict(self) -> dict[str, Any]:
        return {"name": f"{__name__}:ExactVectors"}


class TestThirdPartyCodec(CodecContract):
    record = "vector"
    settings: ClassVar = {"name": f"{__name__}:ExactVectors"}
