"""What a student looks like, by its kind."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from kdcache.config import Settings
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.student.ctc_settings import CTCStudentSettings
from kdcache.student.san_m_settings import SanMStudentSettings

FEATURE_SHIFT = 0.01
"""Seconds between two feature frames."""


class StudentSettings(Settings):
    """A FastConformer transducer: sizes of encoder, prediction network and joint network."""

    kind: Literal["transducer"] = "transducer"
    """What sort of student it is."""

    TERMS: ClassVar[dict[str, str]] = {
        "rnnt": "",
        "lattice_kl": "",
        "alignment_kl": "",
        "best_path_kl": "",
        "confidence": "",
        "full_sum": "",
        "hypotheses": "",
        "ctc": "ctc_head",
        "encoder_kl": "ctc_head",
        "hidden_mse": "hidden_head",
        "hidden_codes": "codebook_head",
        "attention": "rescorer",
        "decoder_kl": "rescorer",
    }
    """Terms of the loss that it can learn from, and the setting that each needs, if any."""

    INSTEAD: ClassVar[dict[str, tuple[str, str]]] = {"encoder_kl": ("joint_kind", "additive")}
    """Terms for which a value of another setting does as well."""

    PARTS: ClassVar[tuple[str, ...]] = (
        "encoder",
        "prediction",
        "joint",
        "ctc_head",
        "hidden_head",
        "codebook_head",
        "rescorer",
    )
    """Names of what can be frozen; see ``Student.parts``."""

    hidden: int = Field(default=96, ge=8)
    """Width D of the encoder."""

    layers: int = Field(default=4, ge=1)
    """Conformer blocks."""

    heads: int = Field(default=4, ge=1)
    """Attention heads; must divide ``hidden``."""

    feed_forward: int = Field(default=4, ge=1)
    """Feed-forward width as a multiple of ``hidden``."""

    conv_kernel: int = Field(default=9, ge=3)
    """Kernel of the depthwise convolution, odd."""

    subsampling: Literal[2, 4, 8] = 4
    """Feature frames (of 10 ms) per encoder frame; the teacher may have others."""

    subsampling_channels: int = Field(default=32, ge=1)
    """Channels of the subsampling convolutions."""

    joint: int = Field(default=96, ge=8)
    """Width J of prediction and joint network."""

    joint_kind: Literal["relu", "additive"] = "relu"
    """How the joint network joins encoder and prediction network: ``relu``, their sum bent and
    projected to the vocabulary; or ``additive``, the sum of what each says in logits, so that the
    encoder has logits of its own. Then ``joint`` is the width of the prediction network alone."""

    prediction_layers: int = Field(default=1, ge=1)
    """LSTM layers of the prediction network."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout throughout the encoder."""

    ctc_head: bool = False
    """An auxiliary CTC projection of the encoder: it steadies training, and gives a later
    cache its encoder logits."""

    hidden_head: int = Field(default=0, ge=0)
    """Width of the teacher's hidden states, onto which the encoder's are projected to learn from
    them; 0 for none. Only training uses it."""

    codebook_head: int = Field(default=0, ge=0)
    """How many codebooks the teacher's hidden states were packed by, whose entries are predicted
    from the encoder's; 0 for none. Only training uses it."""

    rescorer: DecoderSettings | None = None
    """An attention decoder on the same encoder, for a second pass over what the transducer finds;
    its sizes, such as ``{layers: 2}``. Added to the student that ``init`` names if that has
    none."""

    @property
    def frame_shift(self) -> float:
        """Seconds between two encoder frames."""
        return self.subsampling * FEATURE_SHIFT

    @model_validator(mode="after")
    def _divisible(self) -> StudentSettings:
        if self.hidden % self.heads:
            raise ValueError(
                f"should have hidden ({self.hidden}) a multiple of heads ({self.heads})"
            )
        return self


def _with_kind(value: Any) -> Any:
    """Settings that name no kind are a transducer's."""
    return {"kind": "transducer", **value} if isinstance(value, dict) else value


AnyStudentSettings = Annotated[
    Annotated[
        CTCStudentSettings | SanMStudentSettings | StudentSettings, Field(discriminator="kind")
    ],
    BeforeValidator(_with_kind),
]
"""Settings of a student of any kind: a union that ``kind`` chooses from."""
