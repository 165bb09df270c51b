"""Vectors kept as they are: the encoder's last hidden states, or the teacher's input features.

Shapes: T frames, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kdcache.codec.records import VectorRecord
from kdcache.errors import TeacherOutputError
from kdcache.target.checks import check_offered, check_rows, given
from kdcache.target.fidelity import relative_error, vector_fidelity
from kdcache.target.protocol import Reduced

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from kdcache.codec.protocol import RecordCodec
    from kdcache.teacher.protocol import TeacherOutput
    from kdcache.types import TeacherSpec


@dataclass(frozen=True)
class VectorTarget:
    """Keeps a vector a frame."""

    kind: ClassVar[str]
    record: ClassVar[str] = "vector"

    def settings(self) -> dict[str, Any]:
        """There are none."""
        return {}

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless the teacher has these vectors."""
        check_offered(self.kind, teacher)

    @abstractmethod
    def default_codec(self) -> dict[str, Any]:
        """Codec settings used where the configuration names none."""

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Pack the vectors; see ``Target.reduce``."""
        record = VectorRecord(self.vectors(output))
        columns = codec.encode(record)
        decoded = codec.decode(columns)
        assert isinstance(decoded, VectorRecord)
        fidelity = vector_fidelity(record.values_TD, decoded.values_TD)
        if decoded.codes_TQ is not None:
            fidelity["error_relative"] = relative_error(record.values_TD, decoded.values_TD)
        return Reduced(columns, fidelity)

    def vectors(self, output: TeacherOutput) -> np.ndarray:
        """The vectors on the host, float32 (T, D).

        Raises:
            TeacherOutputError: NaN or infinity among them, or a shape that cannot be.
        """
        values = self.values(output)
        if not bool(values.isfinite().all()):
            raise TeacherOutputError(f"The teacher gave NaN or infinite {self.kind}.")
        values_TD: np.ndarray = values.float().cpu().numpy()
        return values_TD

    @abstractmethod
    def values(self, output: TeacherOutput) -> Tensor:
        """The vectors (T, D) that this target is made of."""


class HiddenTarget(VectorTarget):
    """The encoder's last hidden states (T, D)."""

    kind = "hidden"

    def default_codec(self) -> dict[str, Any]:
        """Half precision: widths and outliers differ from model to model."""
        return {"name": "fp16"}

    def values(self, output: TeacherOutput) -> Tensor:
        """(T, D)."""
        check_rows(output.hidden_TD.shape[0], output.frames, "frames of hidden states")
        return output.hidden_TD


class FeaturesTarget(VectorTarget):
    """The teacher's input features (feature frames, mel bands)."""

    kind = "features"

    def default_codec(self) -> dict[str, Any]:
        """One byte a value: features are normalised and have few outliers."""
        return {"name": "int8"}

    def values(self, output: TeacherOutput) -> Tensor:
        """(F, M)."""
        features_FM = given(output.features_FM, self.kind)
        check_rows(features_FM.shape[0], features_FM.shape[0], "frames of features")
        return features_FM
