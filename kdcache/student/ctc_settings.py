"""What a CTC student over raw samples looks like, and how it streams."""

from __future__ import annotations

from math import prod
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from kdcache.config import Settings

SAMPLE_RATE = 16_000
"""Hz that these students hear."""


class StreamingSettings(Settings):
    """Which frames a frame may look at; left out of a student, all of an utterance."""

    chunk: int = Field(default=24, ge=1)
    """Frames that are computed at a time, each of which sees all of them: with 20 ms a frame,
    24 are 480 ms, which is also how long a frame waits at most."""

    history: int = Field(default=96, ge=0)
    """Frames before a chunk that each layer's attention looks back at."""


class HiddenLayer(Settings):
    """What is learnt of one of the teacher's layers, and where."""

    layer: int = Field(ge=1)
    """The student's layer, from 1, whose output is projected."""

    width: int = Field(ge=1)
    """Width of the teacher's vectors."""


class CTCStudentSettings(Settings):
    """wav2vec 2.0's form: convolutions over samples, a transformer, and a CTC projection."""

    kind: Literal["ctc"]
    """What sort of student it is."""

    TERMS: ClassVar[dict[str, str]] = {
        "ctc": "",
        "encoder_kl": "",
        "logit_mse": "",
        "lf_mmi": "",
        "sequence_kd": "",
        "hidden_mse": "hidden_layers",
    }
    """Terms of the loss that it can learn from, and the setting that each needs, if any."""

    hidden: int = Field(default=96, ge=8)
    """Width D of the transformer."""

    layers: int = Field(default=4, ge=1)
    """Transformer layers."""

    heads: int = Field(default=4, ge=1)
    """Attention heads; must divide ``hidden``."""

    feed_forward: int = Field(default=4, ge=1)
    """Feed-forward width as a multiple of ``hidden``."""

    conv_channels: int = Field(default=64, ge=1)
    """Channels of the convolutions over samples."""

    conv_kernels: tuple[int, ...] = (320, 3, 3)
    """Their kernels, first to last; none pads. Those of wav2vec 2.0 are 10, 3, 3, 3, 3, 2, 2."""

    conv_strides: tuple[int, ...] = (80, 2, 2)
    """Their strides; the product is a frame's samples, of 16,000 a second. Those of wav2vec 2.0
    are 5, 2, 2, 2, 2, 2, 2."""

    first_filters: Literal["mel", "random"] = "mel"
    """What the first convolution begins as: band-pass filters along the mel scale, which spare a
    small corpus the learning of them and want a kernel of some 10 ms; or random weights."""

    position_kernel: int = Field(default=32, ge=1)
    """Frames of the convolution that tells positions; of a student that streams, those up to the
    present one."""

    position_groups: int = Field(default=4, ge=1)
    """Its groups; must divide ``hidden``."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout throughout the transformer."""

    streaming: StreamingSettings | None = None
    """How it streams; left out: it hears an utterance whole."""

    hidden_layers: dict[str, HiddenLayer] = Field(default={})
    """By the name of a cached target of kind ``hidden``, the layer that learns it, for
    ``hidden_mse``: ``{hidden_2: {layer: 1, width: 96}}``. Only training uses their projections."""

    @property
    def frame_shift(self) -> float:
        """Seconds between two frames."""
        return prod(self.conv_strides) / SAMPLE_RATE

    @property
    def hidden_targets(self) -> tuple[str, ...]:
        """Names of the cached targets that ``hidden_mse`` is made of."""
        return tuple(self.hidden_layers)

    @model_validator(mode="after")
    def _fits(self) -> CTCStudentSettings:
        for name in ("heads", "position_groups"):
            if self.hidden % getattr(self, name):
                raise ValueError(
                    f"should have hidden ({self.hidden}) a multiple of {name} "
                    f"({getattr(self, name)})"
                )
        if len(self.conv_kernels) != len(self.conv_strides) or not self.conv_kernels:
            raise ValueError(
                f"should have as many conv_kernels ({len(self.conv_kernels)}) as conv_strides "
                f"({len(self.conv_strides)}), and at least one"
            )
        if min(*self.conv_kernels, *self.conv_strides) < 1:
            raise ValueError("should have conv_kernels and conv_strides of at least 1")
        deepest = max((entry.layer for entry in self.hidden_layers.values()), default=0)
        if deepest > self.layers:
            raise ValueError(
                f"should have hidden_layers up to layer {self.layers}, the last; got {deepest}"
            )
        return self
