"""The RNN-T loss (Graves, "Sequence transduction with recurrent neural networks", 2012).

−log P(y | x), summed over all alignments. Two analytic gradients meet here: that of the
likelihood by the arcs' log-probabilities is minus their occupancies (this file), and that of
those by the logits is the softmax's (``classes.py``). Together they give, at a node,

    ∂(−log P)/∂z_v = p_v · γ[t, u] − [v = blank] · γ_blank[t, u] − [v = label] · γ_label[t, u]

with one new tensor of the lattice's size, the gradient itself.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with
blank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from kdcache.lattice.nodes import node_log_probs
from kdcache.lattice.occupancy import arc_occupancy
from kdcache.lattice.reduction import Reduction, reduce_utterances
from kdcache.lattice.scan import forward_backward

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.lattice.factored import Logits


def rnnt_loss(
    logits_BTUV: Logits,
    labels_BU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    blank: int,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood of the labels, in nats per utterance.

    Args:
        logits_BTUV: (B, T, U+1, V), any floating dtype, not normalised; or what they are made
            of, which is never multiplied out where that is large.
        labels_BU: int64, (B, ≥ U); what lies beyond a length is ignored.
        frames_B: T ≥ 1 of each utterance, int64.
        label_lengths_B: U ≥ 0 of each utterance, int64.
        blank: class id of blank.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Returns:
        float64 for float64 logits, else float32. The gradient is zero in padding. An
        utterance with NaN logits has loss and gradient NaN, and the others do not; one whose
        labels are impossible has loss +inf and gradient NaN.

    Raises:
        InputError: shapes, lengths or class ids do not fit.
        ConfigError: the reduction is unknown.
    """
    blank_BTU, label_BTU = node_log_probs(logits_BTUV, labels_BU, blank, frames_B, label_lengths_B)
    return transducer_nll(blank_BTU, label_BTU, frames_B, label_lengths_B, reduction)


def transducer_nll(
    blank_BTU: Tensor,
    label_BTU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    """The RNN-T loss on log-probabilities of arcs, differentiable in both.

    Args:
        blank_BTU: log-probability of blank at each node, (B, T, U+1).
        label_BTU: log-probability of the next label; column u = U is ignored.
        frames_B: T ≥ 1 of each utterance, int64.
        label_lengths_B: U ≥ 0 of each utterance, int64.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Returns:
        Nats per utterance, in the dtype of ``blank_BTU``; computed in float64.

    Raises:
        InputError: the lengths do not fit the lattice.
        ConfigError: the reduction is unknown.
    """
    loss_B: Tensor = _TransducerNLL.apply(blank_BTU, label_BTU, frames_B, label_lengths_B)  # type: ignore[no-untyped-call]
    return reduce_utterances(loss_B, reduction)


class _TransducerNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, blank_BTU: Tensor, label_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor
    ) -> Tensor:
        arcs = (blank_BTU, label_BTU, frames_B, label_lengths_B)
        found = forward_backward(*arcs)
        if any(ctx.needs_input_grad[:2]):
            by_blank_BTU, by_label_BTU = arc_occupancy(*arcs, found)
            ctx.save_for_backward(
                by_blank_BTU.to(blank_BTU.dtype), by_label_BTU.to(label_BTU.dtype)
            )
        return -found.log_likelihood_B.to(blank_BTU.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_blank_BTU, by_label_BTU = ctx.saved_tensors
        scale_B11 = -grad_B[:, None, None]
        return by_blank_BTU * scale_B11, by_label_BTU * scale_B11, None, None
