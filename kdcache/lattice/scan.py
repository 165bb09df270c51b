"""The one recursion of a transducer's lattice, and forward-backward by it.

A node is reached from the left by blank and from below by a label:

    s[t, u] = (s[t−1, u] + stay[t, u]) ⊕ (s[t, u−1] + move[t, u])

With ⊕ = logaddexp that is the forward variable α of Graves, "Sequence transduction with
recurrent neural networks" (2012, eq. 16); run over the lattice turned round it is the backward
variable β (eq. 18); with ⊕ = max it is Viterbi. Nodes of one anti-diagonal t + u do not depend
on each other, so T + U steps over vectors of U+1 do it, for α and β of the whole batch at once.

Why diagonals and not rows: a row scan (logcumsumexp over u) subtracts a running sum of label
log-probabilities, which eats digits where U is large and turns into NaN where one label is
impossible (−inf). The recursion above subtracts nothing. It runs in float64, since the tables
have no vocabulary axis and cost nothing beside the logits.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), D = T+U diagonals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from kdcache.lattice.lengths import node_mask, parse_extents

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Combine = Callable[..., Tensor]


class Arcs(NamedTuple):
    """Log-probabilities of the arcs that leave each node, −inf where there is no arc.

    Attributes:
        blank_BTU: float64 (B, T, U+1), to (t+1, u), or out of the lattice from the last node.
        label_BTU: float64 (B, T, U+1), to (t, u+1).
    """

    blank_BTU: Tensor
    label_BTU: Tensor


class ForwardBackward(NamedTuple):
    """What forward-backward finds; float64, natural logarithms, −inf in padding.

    Attributes:
        alpha_BTU: log-probability of all paths from the start to the node, (B, T, U+1).
        beta_BTU: log-probability of all paths from the node to the end, the last blank in it.
        log_likelihood_B: log-probability of the label sequence, log P(y | x).
    """

    alpha_BTU: Tensor
    beta_BTU: Tensor
    log_likelihood_B: Tensor


def forward_backward(
    blank_BTU: Tensor, label_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor
) -> ForwardBackward:
    """Forward and backward variables of every node. Not differentiable.

    Args:
        blank_BTU: log-probability of blank at each node, (B, T, U+1), any floating dtype.
        label_BTU: log-probability of the next label; column u = U is ignored.
        frames_B: T ≥ 1 of each utterance, int64.
        label_lengths_B: U ≥ 0 of each utterance, int64.

    Raises:
        InputError: the lengths do not fit the lattice.
    """
    arcs = real_arcs(blank_BTU, label_BTU, frames_B, label_lengths_B)
    real_BTU = node_mask(frames_B, label_lengths_B, *blank_BTU.shape[1:])
    stay_BTU, move_BTU = incoming(arcs)
    back = Arcs(*(_turn_round(x, frames_B, label_lengths_B) for x in arcs))
    start_B = torch.cat([torch.zeros_like(back.blank_BTU[:, 0, 0]), back.blank_BTU[:, 0, 0]])
    scores_BTU = sweep(
        torch.cat([stay_BTU, back.blank_BTU]),
        torch.cat([move_BTU, back.label_BTU]),
        start_B,
        torch.logaddexp,
    )
    alpha_BTU, turned_BTU = scores_BTU.chunk(2)
    alpha_BTU = alpha_BTU.masked_fill(~real_BTU, -torch.inf)
    beta_BTU = _turn_round(turned_BTU, frames_B, label_lengths_B)
    return ForwardBackward(
        alpha_BTU, beta_BTU, at_end(alpha_BTU + arcs.blank_BTU, frames_B, label_lengths_B)
    )


def real_arcs(
    blank_BTU: Tensor, label_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor
) -> Arcs:
    """The arcs in float64, detached, with −inf for what leaves a padded node or column u = U.

    Raises:
        InputError: the lengths do not fit the lattice.
    """
    parse_extents(frames_B, label_lengths_B, blank_BTU.shape, min_frames=1)
    frames, columns = blank_BTU.shape[1:]
    real_BTU = node_mask(frames_B, label_lengths_B, frames, columns)
    labelled_BTU = node_mask(frames_B, label_lengths_B - 1, frames, columns)
    return Arcs(
        blank_BTU.detach().double().masked_fill(~real_BTU, -torch.inf),
        label_BTU.detach().double().masked_fill(~labelled_BTU, -torch.inf),
    )


def incoming(arcs: Arcs) -> Arcs:
    """The same arcs, stood at the node that they enter."""
    pad = torch.nn.functional.pad
    return Arcs(
        pad(arcs.blank_BTU[:, :-1], (0, 0, 1, 0), value=-torch.inf),
        pad(arcs.label_BTU[:, :, :-1], (1, 0), value=-torch.inf),
    )


def at_end(x_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor) -> Tensor:
    """The value at each utterance's last node (T−1, U): (B,)."""
    rows_B = torch.arange(x_BTU.shape[0], device=x_BTU.device)
    return x_BTU[rows_B, frames_B - 1, label_lengths_B]


def sweep(stay_BTU: Tensor, move_BTU: Tensor, start_B: Tensor, combine: Combine) -> Tensor:
    """Run the recursion of this module over anti-diagonals.

    Args:
        stay_BTU: weight of the arc into (t, u) from (t−1, u); −inf where there is none.
        move_BTU: weight of the arc into (t, u) from (t, u−1); −inf where there is none.
        start_B: value of node (0, 0).
        combine: ``torch.logaddexp`` or ``torch.maximum``, taking ``out``.

    Returns:
        (B, T, U+1); −inf at nodes that cannot be reached.
    """
    batch, frames, columns = stay_BTU.shape
    stay_DBU, move_DBU = _skew(stay_BTU), _skew(move_BTU)
    # A first column of −inf stands for u = −1, so that a step is one expression.
    score_DBU = stay_DBU.new_full((frames + columns - 1, batch, columns + 1), -torch.inf)
    score_DBU[0, :, 1] = start_B
    for d in range(1, frames + columns - 1):
        last_BU = score_DBU[d - 1]
        stayed_BU = last_BU[:, 1:] + stay_DBU[d]
        moved_BU = last_BU[:, :-1] + move_DBU[d]
        combine(stayed_BU, moved_BU, out=score_DBU[d, :, 1:])
    t_T1, u_U = _grid(frames, columns, stay_BTU.device)
    return score_DBU[t_T1 + u_U, :, u_U + 1].permute(2, 0, 1)


def _grid(frames: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return (
        torch.arange(frames, device=device)[:, None],
        torch.arange(columns, device=device),
    )


def _skew(x_BTU: Tensor) -> Tensor:
    """Anti-diagonals as rows: (D, B, U+1), x[b, d−u, u] or −inf outside the lattice."""
    _, frames, columns = x_BTU.shape
    d_D1, u_U = _grid(frames + columns - 1, columns, x_BTU.device)
    t_DU = d_D1 - u_U
    skewed_BDU = x_BTU[:, t_DU.clamp(0, frames - 1), u_U]
    outside_DU = (t_DU < 0) | (t_DU >= frames)
    return skewed_BDU.masked_fill_(outside_DU, -torch.inf).transpose(0, 1).contiguous()


def _turn_round(x_BTU: Tensor, frames_B: Tensor, label_lengths_B: Tensor) -> Tensor:
    """Each utterance's real nodes in reverse, (t, u) ↔ (T−1−t, U−u); −inf in padding."""
    batch, frames, columns = x_BTU.shape
    t_T1, u_U = _grid(frames, columns, x_BTU.device)
    t_BT1 = (frames_B[:, None, None] - 1 - t_T1).clamp(min=0)
    u_B1U = (label_lengths_B[:, None, None] - u_U).clamp(min=0)
    rows_B11 = torch.arange(batch, device=x_BTU.device)[:, None, None]
    real_BTU = node_mask(frames_B, label_lengths_B, frames, columns)
    return x_BTU[rows_B11, t_BT1, u_B1U].masked_fill_(~real_BTU, -torch.inf)
