"""Regression onto a teacher's vectors: hidden states or features.

Shapes: B batch, T frames, D hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import InputError
from kdcache.lattice.lengths import parse_lengths
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.loss.normalise import SequenceNormalise, normalise_sequence

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import VectorBatch


def vector_mse(
    values_BTD: Tensor,
    target: VectorBatch,
    reduction: Reduction = "mean",
    normalise: SequenceNormalise = "none",
) -> Tensor:
    """Squared error, mean over the D dimensions and sum over the frames of an utterance.

    Args:
        values_BTD: the student's, already projected to the teacher's width; it may be padded
            further than the target.
        target: the teacher's vectors and lengths.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: per utterance (``none``) or per frame (``length``).

    Returns:
        The square of the vectors' unit; float64 for float64 values, else float32. The gradient
        is zero in padding, which is not read; NaN within a length makes its utterance NaN.

    Raises:
        InputError: student and target do not fit.
        ConfigError: ``reduction`` or ``normalise`` is unknown.
    """
    _check(values_BTD, target)
    frames = target.values_BTD.shape[1]
    t_T = torch.arange(frames, device=values_BTD.device)
    padding_BT = t_T >= target.lengths_B[:, None]
    wide = torch.promote_types(values_BTD.dtype, torch.float32)
    error_BTD = values_BTD[:, :frames].to(wide) - target.values_BTD.to(wide)
    # Padding goes before the square, so that a NaN there has no gradient either.
    error_BTD = error_BTD.masked_fill(padding_BT[:, :, None], 0.0)
    loss_B = error_BTD.square().mean(-1).sum(1)
    return reduce_utterances(normalise_sequence(loss_B, target.lengths_B, normalise), reduction)


def _check(values_BTD: Tensor, target: VectorBatch) -> None:
    got, need = values_BTD.shape, target.values_BTD.shape
    fits = len(got) == len(need) == 3 and got[0] == need[0] and got[2] == need[2]
    if not fits or got[1] < need[1]:
        raise InputError(
            f"Student vectors have shape {tuple(got)}, the target's {tuple(need)}; expected equal "
            "batch and width, and at least as many frames. Project the student to the teacher's "
            "width."
        )
    parse_lengths("lengths_B", target.lengths_B, need[0], 0, need[1])
