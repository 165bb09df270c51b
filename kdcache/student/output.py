"""What a student says of a batch: the part that all kinds have, and what only some have.

Shapes: B batch, T encoder frames, U labels, S columns of a frame's window, V vocabulary with blank
(the last class), J joint width, D hidden size, Q codebooks, E entries of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kdcache.lattice import FactoredLogits
from kdcache.lattice.banded import band_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class StudentOutput:
    """What one forward pass gives; a lattice is not multiplied out before it is asked for.

    Attributes:
        encoder_BTJ: a transducer's projected encoder frames.
        decoder_BUJ: states of its prediction network, (B, U+1, J); ``None`` where the student only
            heard and read no labels.
        joint: maps states and frames, broadcast against each other, to logits.
        frames_B: T of each utterance.
        hidden_BTD: last hidden states of the encoder.
        ctc_logits_BTV: logits of a CTC projection of the encoder, where there is one.
        own_logits_BTV: the encoder's own logits, where the joint network only adds to them.
        vectors_BTD: the encoder's states projected to the teacher's width, where that is asked
            for.
        codes_BTQE: logits of the entries of the teacher's codebooks, where they are asked for.
        predict: the prediction network, for other labels than the reference.
        attention_logits_BUV: teacher-forced logits of an attention decoder, (B, U+1, V), where
            there is one that read labels: row u of label u, the row after the last of the end,
            whose class id is blank's.
        layer_vectors: (B, T, D) states of chosen layers projected to the teacher's width, by the
            name of the cached target that they learn.
    """

    encoder_BTJ: Tensor | None
    decoder_BUJ: Tensor | None
    joint: Callable[[Tensor, Tensor], Tensor] | None
    frames_B: Tensor
    hidden_BTD: Tensor
    ctc_logits_BTV: Tensor | None
    vectors_BTD: Tensor | None = None
    codes_BTQE: Tensor | None = None
    predict: Callable[[Tensor], Tensor] | None = None
    attention_logits_BUV: Tensor | None = None
    own_logits_BTV: Tensor | None = None
    layer_vectors: Mapping[str, Tensor] = field(default_factory=dict)

    def frame_logits(self) -> Tensor | None:
        """What the encoder says of each frame, its own logits or else those of the CTC head:
        (B, T, V); ``None`` where it has neither."""
        return self.ctc_logits_BTV if self.own_logits_BTV is None else self.own_logits_BTV

    def factored(self) -> FactoredLogits:
        """The lattice for a loss, which evaluates the joint network where and when it needs it."""
        assert self.encoder_BTJ is not None
        assert self.decoder_BUJ is not None
        assert self.joint is not None
        return FactoredLogits(self.encoder_BTJ, self.decoder_BUJ, self.joint)

    def factored_of(self, labels_BU: Tensor) -> FactoredLogits:
        """The same of other labels than the reference.

        Args:
            labels_BU: int64; any class id in padding.
        """
        assert self.predict is not None
        return replace(self, decoder_BUJ=self.predict(labels_BU)).factored()

    def lattice_logits(self) -> Tensor:
        """Logits of every node, multiplied out: (B, T, U+1, V)."""
        return self.factored().lattice_logits()

    def band_logits(self, starts_BT: Tensor, width: int) -> Tensor:
        """Logits at the nodes of a band alone, (B, T, S, V): see ``kdcache.lattice.banded``.

        Args:
            starts_BT: int64 first column of each window, for as many frames.
            width: S.
        """
        whole = self.factored()
        columns_BTS = band_columns(starts_BT, width, whole.decoder_BUJ.shape[1])
        return whole.logits_at(columns_BTS)
