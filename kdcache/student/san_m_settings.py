"""What a SAN-M student looks like."""

from __future__ import annotations

from typing import ClassVar, Literal

from kdcache.network.san_m_settings import SanMSettings


class SanMStudentSettings(SanMSettings):
    """A SAN-M encoder with an attention decoder: sizes, and layers that share weights."""

    kind: Literal["san_m"] = "san_m"
    """What sort of student it is."""

    TERMS: ClassVar[dict[str, str]] = {
        "attention": "",
        "decoder_kl": "",
        "ctc": "ctc_head",
        "encoder_kl": "ctc_head",
    }
    """Terms of the loss that it can learn from, and the setting that each needs, if any."""

    PARTS: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "ctc_head")
    """Names of what can be frozen; see ``Student.parts``."""

    ctc_head: bool = False
    """An auxiliary CTC projection of the encoder: it teaches the decoder where to look, and gives a
    later cache its encoder logits."""

    def sizes(self) -> SanMSettings:
        """Those of the network alone."""
        return SanMSettings.model_validate({n: getattr(self, n) for n in SanMSettings.model_fields})

    @property
    def frame_shift(self) -> float:
        """Seconds between two encoder frames."""
        return self.subsampling * 0.01  # a feature frame is 10 ms
