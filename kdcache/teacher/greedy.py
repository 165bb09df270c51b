"""The labels that a teacher itself would write, by the best class at every step.

Of a transducer: each frame emits labels until its best class is blank, at most so many (Graves
2012, arXiv 1211.3711, section 2.4, with a beam of one). Since most frames emit nothing, the joint
network is asked for several frames ahead with the same labels, and the search goes to the first
that emits one (after Bataev et al. 2024, "Label-looping", arXiv 2406.06220): the labels are the
same, and the calls are about U + T / 16 instead of U + T. Of CTC: the best class of each frame,
repetitions and blanks removed.

Shapes: T encoder frames, U labels, J joint width, V vocabulary with blank.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.teacher.protocol import LatticeLogits, Predictor

AHEAD = 16
"""Frames that the joint network is asked for at once."""

MAX_SYMBOLS = 10
"""Labels that a frame may emit."""


@torch.no_grad()
def greedy_transducer(
    lattice: LatticeLogits, predictor: Predictor, max_symbols: int = MAX_SYMBOLS
) -> tuple[tuple[int, ...], Tensor]:
    """The labels, and the prediction network's outputs (U+1, J) before and after each.

    Args:
        lattice: the teacher's, of which the encoder and the joint network are used.
        predictor: the teacher's prediction network.
        max_symbols: labels that a frame may emit.
    """
    output_1J, state = predictor.start()
    labels: list[int] = []
    outputs = [output_1J]
    frame, emitted = 0, 0
    while (found := _next_label(lattice, output_1J, frame)) is not None:
        at, label = found
        emitted = emitted + 1 if at == frame else 1
        labels.append(label)
        output_1J, state = predictor.step(torch.tensor([label], device=output_1J.device), state)
        outputs.append(output_1J)
        frame = at
        if emitted == max_symbols:
            frame, emitted = at + 1, 0
    return tuple(labels), torch.cat(outputs)


def greedy_ctc(logits_TV: Tensor, blank: int) -> tuple[int, ...]:
    """The labels of the best class of each frame."""
    best = logits_TV.argmax(-1).tolist()
    return tuple(label for label, _ in groupby(best) if label != blank)


def _next_label(lattice: LatticeLogits, output_1J: Tensor, frame: int) -> tuple[int, int] | None:
    """The first frame from ``frame`` on that emits a label after these, and which; or none."""
    frames = lattice.encoder_TJ.shape[0]
    for start in range(frame, frames, AHEAD):
        encoder_T1J = lattice.encoder_TJ[start : start + AHEAD, None]
        best = lattice.joint(encoder_T1J, output_1J[None])[:, 0].argmax(-1).tolist()
        for ahead, label in enumerate(best):
            if label != lattice.blank:
                return start + ahead, label
    return None
