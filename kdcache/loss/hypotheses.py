"""Sequence-level distillation: the student learns the teacher's own n best hypotheses.

    L = − Σ_h w_h log P_S(y_h | x),    w_h = P_T(y_h | x)^(1/τ) ÷ Σ_k P_T(y_k | x)^(1/τ)

over the H sequences that the teacher finds likely (Kim and Rush, "Sequence-level knowledge
distillation", arXiv 1606.07947, equation for a list in the place of the one best). It needs no
transcript, and no frames in common.

Shapes: B batch, H hypotheses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import ConfigError, InputError
from kdcache.lattice.lengths import parse_lengths
from kdcache.lattice.reduction import Reduction, reduce_utterances

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import HypothesesBatch


def hypothesis_weights(target: HypothesesBatch, temperature: float = 1.0) -> Tensor:
    """How much each hypothesis counts: float32 (B, H), 0 in padding, of an utterance 1 in all.

    Args:
        target: the teacher's hypotheses.
        temperature: τ; above 1 the less likely ones count more, towards 0 the best alone.

    Raises:
        InputError: a count does not fit.
        ConfigError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}; expected a number above 0.")
    batch, most = target.scores_BH.shape
    parse_lengths("counts_B", target.counts_B, batch, 0, most)
    h_H = torch.arange(most, device=target.scores_BH.device)
    padding_BH = h_H >= target.counts_B[:, None]
    scores_BH = (target.scores_BH.float() / temperature).masked_fill(padding_BH, -torch.inf)
    # An utterance without hypotheses has nothing to share out.
    empty_B1 = (target.counts_B == 0)[:, None]
    return scores_BH.masked_fill(empty_B1, 0.0).softmax(-1).masked_fill(padding_BH, 0.0)


def hypotheses_nll(
    nll_BH: Tensor,
    target: HypothesesBatch,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Weighted negative log-likelihood of the hypotheses.

    Args:
        nll_BH: the student's −log P(y_h | x), differentiable: an RNN-T or CTC loss of each.
        target: the teacher's hypotheses.
        temperature: of the weights.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Returns:
        Nats per utterance, in the dtype of ``nll_BH``. The gradient is zero in padding, which is
        not read; an utterance without hypotheses has loss 0.

    Raises:
        InputError: student and target do not fit.
        ConfigError: ``temperature`` or ``reduction`` cannot be used.
    """
    if nll_BH.shape != target.scores_BH.shape:
        raise InputError(
            f"The student's losses have shape {tuple(nll_BH.shape)}, the target's scores "
            f"{tuple(target.scores_BH.shape)}; expected one loss a hypothesis."
        )
    weights_BH = hypothesis_weights(target, temperature).to(nll_BH.dtype)
    # Before the product, so that an infinite loss of padding is no NaN.
    counted_BH = nll_BH.masked_fill(weights_BH == 0, 0.0)
    return reduce_utterances((weights_BH * counted_BH).sum(1), reduction)
