"""Full-sum distillation: the student is to find the transcript as probable as the teacher does.

    L = | log P_T(y | x) − log P_S(y | x) |

Both sums run over all alignments, so that teacher and student may align differently, have other
frame rates, and be of other kinds (a CTC teacher and a transducer student).

Shapes: B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.errors import InputError
from kdcache.lattice.reduction import Reduction, reduce_utterances

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import ScoreBatch


def full_sum_distance(nll_B: Tensor, target: ScoreBatch, reduction: Reduction = "mean") -> Tensor:
    """Distance of two log-probabilities, in nats per utterance.

    Args:
        nll_B: the student's −log P(y | x), differentiable: an RNN-T or CTC loss per utterance.
        target: the teacher's log P(y | x).
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Returns:
        In the dtype of ``nll_B``. The gradient by ``nll_B`` is +1 where the student finds the
        transcript less probable than the teacher, −1 where more, 0 where as probable. An
        utterance to which the teacher gives no probability has loss and gradient 0.

    Raises:
        InputError: the batches differ.
        ConfigError: ``reduction`` is unknown.
    """
    if nll_B.shape != target.scores_B.shape or nll_B.dim() != 1:
        raise InputError(
            f"The student's losses have shape {tuple(nll_B.shape)}, the target "
            f"{tuple(target.scores_B.shape)}; expected one number an utterance of both."
        )
    impossible_B = target.scores_B.isneginf()
    # Before the difference, so that the other side's infinity has no gradient either.
    teacher_B = target.scores_B.masked_fill(impossible_B, 0.0).to(nll_B.dtype)
    student_B = nll_B.masked_fill(impossible_B, 0.0)
    return reduce_utterances((teacher_B + student_B).abs(), reduction)
