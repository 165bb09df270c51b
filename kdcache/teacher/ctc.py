"""CTC teachers over log-mel features: ``ParakeetForCTC``.

CTC is conditioned on no label: the given tokens are carried through and change nothing. Blank
is the model's padding token.

Shapes: B batch, F feature frames, M mel bands, T encoder frames, D hidden size, V vocabulary
with blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.teacher.parakeet import ParakeetTeacher
from kdcache.teacher.protocol import TeacherOutput
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    import numpy as np


class ParakeetCTCTeacher(ParakeetTeacher):
    """A ``ParakeetForCTC`` as a teacher."""

    kind = TeacherKind.CTC
    version = "1"

    @property
    def blank_id(self) -> int:
        """Class id of blank: the padding token."""
        return self.configured_class("pad_token_id")

    @property
    def targets(self) -> tuple[str, ...]:
        """Its frame posteriors, its encoder and its features."""
        return ("encoder_logits", "features", "hidden")

    def _forward(
        self, audio: list[np.ndarray], tokens: list[tuple[int, ...]]
    ) -> list[TeacherOutput]:
        features_BFM, mask_BF = self.features(audio)
        encoded = self.model.encoder(features_BFM.to(self.dtype), attention_mask=mask_BF)
        hidden_BTD = encoded.last_hidden_state
        logits_BTV = self.model.ctc_head(hidden_BTD)
        frames_B = encoded.attention_mask.sum(-1).tolist()
        return [
            TeacherOutput(
                frames=frames,
                tokens=labels,
                hidden_TD=hidden_BTD[row, :frames],
                frame_logits_TV=logits_BTV[row, :frames],
                features_FM=features_BFM[row, : int(mask_BF[row].sum())],
            )
            for row, (frames, labels) in enumerate(zip(frames_B, tokens, strict=True))
        ]
