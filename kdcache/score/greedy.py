"""Greedy transducer decoding of a batch, frame by frame.

At each frame every utterance emits labels until its best class is blank, at most
``max_symbols`` of them (Graves 2012, arXiv 1211.3711, section 2.4, with a beam of one).

Shapes: B batch, T encoder frames, J joint width, V vocabulary with blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import ParakeetForRNNT

MAX_SYMBOLS = 10


class _Prediction:
    """The prediction network's state for each utterance of a batch."""

    def __init__(self, model: ParakeetForRNNT, batch: int, device: torch.device) -> None:
        self._decoder = model.decoder
        start_B = torch.full((batch,), model.config.blank_token_id, device=device)
        self.output_BJ, self._state = self._step(start_B, None)

    def advance(self, labels_B: Tensor, moved_B: Tensor) -> None:
        """Feed ``labels_B`` where ``moved_B``; the others keep their state."""
        output_BJ, state = self._step(labels_B, self._state)
        self.output_BJ = torch.where(moved_B[:, None], output_BJ, self.output_BJ)
        kept = zip(state, self._state, strict=True)
        new, old = [torch.where(moved_B[None, :, None], a, b) for a, b in kept]
        self._state = (new, old)

    def _step(
        self, labels_B: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        embedded = self._decoder.embedding(labels_B[:, None])
        output, state = self._decoder.lstm(embedded, state)
        assert state is not None
        return self._decoder.decoder_projector(output[:, 0]), state


@torch.inference_mode()
def greedy_decode(
    model: ParakeetForRNNT,
    encoder_BTJ: Tensor,
    frames_B: Tensor,
    *,
    max_symbols: int = MAX_SYMBOLS,
) -> list[list[int]]:
    """Label ids of each utterance.

    Args:
        model: a transducer in evaluation mode.
        encoder_BTJ: encoder output projected to the joint's width.
        frames_B: valid frames of each utterance.
        max_symbols: most labels that one frame may emit.
    """
    batch, frames, _ = encoder_BTJ.shape
    blank = int(model.config.blank_token_id)
    prediction = _Prediction(model, batch, encoder_BTJ.device)
    labels: list[list[int]] = [[] for _ in range(batch)]
    for t in range(frames):
        active_B = frames_B > t
        for _ in range(max_symbols):
            best_B = model.joint(prediction.output_BJ, encoder_BTJ[:, t]).argmax(-1)
            active_B = active_B & (best_B != blank)
            if not active_B.any():
                break
            for row in active_B.nonzero()[:, 0].tolist():
                labels[row].append(int(best_B[row]))
            prediction.advance(best_B, active_B)
    return labels
