"""Greedy CTC decoding: the best class of each frame, repetitions and blanks left out.

Shapes: B batch, T frames, V vocabulary with blank.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def greedy_ctc_decode(logits_BTV: Tensor, frames_B: Tensor, blank: int) -> list[list[int]]:
    """Label ids of each utterance (Graves et al. 2006, best path decoding).

    Args:
        logits_BTV: of frames; logarithms of probabilities do as well.
        frames_B: valid frames of each utterance.
        blank: class id of blank.
    """
    best_BT, frames = logits_BTV.argmax(-1).tolist(), frames_B.tolist()
    return [
        [label for label, _ in groupby(row[:length]) if label != blank]
        for row, length in zip(best_BT, frames, strict=True)
    ]
