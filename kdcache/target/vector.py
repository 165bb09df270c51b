"""Vectors kept as they are: the encoder's hidden states, its frames' logits, or its input features.

Shapes: T frames, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kdcache.codec.records import VectorRecord
from kdcache.errors import ConfigError, TeacherOutputError
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


@dataclass(frozen=True)
class HiddenTarget(VectorTarget):
    """The encoder's hidden states (T, D): the last, or what one of its layers gives out.

    Attributes:
        layer: from 1; ``None`` for the last hidden states, which a norm or an adapter may have
            come after.
    """

    kind = "hidden"

    layer: int | None = None

    def __post_init__(self) -> None:
        if self.layer is not None and (isinstance(self.layer, bool) or self.layer < 1):
            raise ConfigError(
                f"layer is {self.layer!r}; expected a layer of the teacher's, from 1, or none for "
                "its last hidden states."
            )

    def settings(self) -> dict[str, Any]:
        """The layer, where it is not the last hidden states."""
        return {} if self.layer is None else {"layer": self.layer}

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that the teacher must keep for it."""
        return () if self.layer is None else (self.layer,)

    def default_codec(self) -> dict[str, Any]:
        """Half precision: widths and outliers differ from model to model."""
        return {"name": "fp16"}

    def values(self, output: TeacherOutput) -> Tensor:
        """(T, D)."""
        hidden_TD = output.hidden_TD if self.layer is None else self._of_layer(output)
        check_rows(hidden_TD.shape[0], output.frames, "frames of hidden states")
        return hidden_TD

    def _of_layer(self, output: TeacherOutput) -> Tensor:
        assert self.layer is not None
        if self.layer not in output.layers:
            raise TeacherOutputError(
                f"The teacher does not give layer {self.layer}; adapters of models over raw "
                "samples, such as Wav2Vec2ForCTC, give those that the model has."
            )
        return output.layers[self.layer]


class FrameLogitsTarget(VectorTarget):
    """Logits of each encoder frame as they are (T, V): for regression, and small vocabularies."""

    kind = "frame_logits"

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless the teacher has logits of frames."""
        check_offered("encoder_logits", teacher)

    def default_codec(self) -> dict[str, Any]:
        """Half precision: logits have outliers."""
        return {"name": "fp16"}

    def values(self, output: TeacherOutput) -> Tensor:
        """(T, V)."""
        logits_TV = given(output.frame_logits_TV, self.kind)
        check_rows(logits_TV.shape[0], output.frames, "frames of logits")
        return logits_TV


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
