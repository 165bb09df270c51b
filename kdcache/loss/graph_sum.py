"""Sums over all paths of a denominator graph: exact forward-backward over frames.

    Z = Σ_π w(π) Π_t exp z_t(π_t)        γ_t(v) = Σ_{π: π_t = v} w(π) Π_t exp z_t(π_t) / Z

over all paths π of T frames, w their weights in the graph; ∂ log Z / ∂ z_t(v) = γ_t(v), which is
what the backward pass gives (Rabiner 1989, section III.A, scaled frame by frame).

Sums are made in float64 with probabilities that are scaled in each frame, so that a frame is one
product of a matrix with the states' vectors; what is below e^−700 of the likeliest state is lost,
and nothing else. Of the frames' states, only one block of utterances is in memory at a time, and
between the two passes of training only γ.

Shapes: B batch, T frames, V classes, S states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from kdcache.errors import InputError
from kdcache.lattice.lengths import parse_lengths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from kdcache.loss.denominator import Denominator

BLOCK = 2**24
"""Numbers of a block's states, over all frames: 128 MiB."""


def graph_log_sum(logits_BTV: Tensor, frames_B: Tensor, graph: Denominator) -> Tensor:
    """log Z of each utterance, differentiable: float64 (B,), in nats.

    Args:
        logits_BTV: any floating dtype; logarithms of unnormalised scores, −inf for impossible.
        frames_B: T of each utterance, int64; padding is not read and has no gradient.
        graph: with as many classes as the logits have.

    Raises:
        InputError: logits, lengths and graph do not fit.
    """
    value_B: Tensor = _GraphSum.apply(logits_BTV, frames_B, graph)  # type: ignore[no-untyped-call]
    return value_B


def graph_occupancy(
    logits_BTV: Tensor, frames_B: Tensor, graph: Denominator
) -> tuple[Tensor, Tensor]:
    """log Z (B,) and γ (B, T, V), float64, without gradient; γ is 0 in padding.

    Arguments and errors are those of :func:`graph_log_sum`. An utterance that has no path has
    log Z −inf and γ 0; one with NaN among its logits has NaN.
    """
    _check(logits_BTV, frames_B, graph)
    logits_BTV = logits_BTV.detach()
    log_sum_B = logits_BTV.new_empty(len(logits_BTV), dtype=torch.float64)
    occupancy_BTV = torch.zeros_like(logits_BTV, dtype=torch.float64)
    for rows in _blocks(logits_BTV, graph):
        found = _forward_backward(logits_BTV[rows].double(), frames_B[rows], graph)
        log_sum_B[rows], occupancy_BTV[rows] = found
    return log_sum_B, occupancy_BTV


class _GraphSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BTV: Tensor, frames_B: Tensor, graph: Denominator) -> Tensor:
        log_sum_B, occupancy_BTV = graph_occupancy(logits_BTV, frames_B, graph)
        ctx.save_for_backward(occupancy_BTV.to(logits_BTV.dtype))
        return log_sum_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, None, None]:
        (occupancy_BTV,) = ctx.saved_tensors
        return occupancy_BTV * grad_B[:, None, None].to(occupancy_BTV.dtype), None, None


def _blocks(logits_BTV: Tensor, graph: Denominator) -> Iterator[slice]:
    """Utterances whose states are in memory together."""
    batch, frames, _ = logits_BTV.shape
    rows = max(1, BLOCK // max(frames * len(graph.end_S), 1))
    for start in range(0, batch, rows):
        yield slice(start, start + rows)


def _forward_backward(
    logits_BTV: Tensor, frames_B: Tensor, graph: Denominator
) -> tuple[Tensor, Tensor]:
    frames = logits_BTV.shape[1]
    real_BT = torch.arange(frames, device=frames_B.device) < frames_B[:, None]
    logits_BTV = logits_BTV.masked_fill(~real_BT[..., None], 0.0)
    # Where all classes are impossible there is nothing to scale by.
    scale_BT1 = logits_BTV.amax(-1, keepdim=True)
    scale_BT1 = scale_BT1.masked_fill(scale_BT1.isneginf(), 0.0)
    score_BTV = (logits_BTV - scale_BT1).exp()
    forward_TBS, log_sum_B = _forward(score_BTV, real_BT, graph)
    log_sum_B = log_sum_B + (scale_BT1[..., 0] * real_BT).sum(1)
    occupancy_BTV = _backward(score_BTV, real_BT, forward_TBS, graph)
    return log_sum_B, occupancy_BTV


def _forward(score_BTV: Tensor, real_BT: Tensor, graph: Denominator) -> tuple[list[Tensor], Tensor]:
    """States after each frame, scaled to add up to 1, and log Z of the scores."""
    log_sum_B = score_BTV.new_zeros(len(score_BTV))
    states_BS = score_BTV.new_zeros(len(score_BTV), len(graph.end_S))
    after = []
    for t in range(score_BTV.shape[1]):
        reached_BS = graph.start_S if t == 0 else states_BS @ graph.weight_SS
        reached_BS = reached_BS * score_BTV[:, t][:, graph.class_S]
        sum_B = reached_BS.sum(-1)
        real_B = real_BT[:, t]
        states_BS = torch.where(real_B[:, None], _over(reached_BS, sum_B), states_BS)
        log_sum_B = log_sum_B + sum_B.log().masked_fill(~real_B, 0.0)
        after.append(states_BS)
    end_B = (states_BS @ graph.end_S).masked_fill(~real_BT.any(1), graph.empty)
    return after, log_sum_B + end_B.log()


def _backward(
    score_BTV: Tensor, real_BT: Tensor, forward_TBS: list[Tensor], graph: Denominator
) -> Tensor:
    """Occupancies of classes; ``forward_TBS`` is used up."""
    occupancy_BTV = torch.zeros_like(score_BTV)
    later_BS = graph.end_S.expand(len(score_BTV), -1)
    for t in reversed(range(score_BTV.shape[1])):
        real_B1 = real_BT[:, t, None]
        here_BS = forward_TBS.pop() * later_BS
        share_BV = _over(here_BS, here_BS.sum(-1)) @ graph.class_SV
        occupancy_BTV[:, t] = torch.where(real_B1, share_BV, 0.0)
        onward_BS = (later_BS * score_BTV[:, t][:, graph.class_S]) @ graph.weight_SS.T
        # Only the proportions of these matter.
        later_BS = torch.where(real_B1, _over(onward_BS, onward_BS.amax(-1)), later_BS)
    return occupancy_BTV


def _over(values_BS: Tensor, divisor_B: Tensor) -> Tensor:
    """Rows divided; by 0 stays 0, and NaN stays NaN."""
    return values_BS / divisor_B.masked_fill(divisor_B == 0, 1.0)[:, None]


def _check(logits_BTV: Tensor, frames_B: Tensor, graph: Denominator) -> None:
    if logits_BTV.dim() != 3 or logits_BTV.shape[2] != graph.classes:
        raise InputError(
            f"Logits have shape {tuple(logits_BTV.shape)}; expected (batch, frames, "
            f"{graph.classes}), the denominator's labels and blank. Make the denominator with the "
            "student's tokenizer."
        )
    parse_lengths("frames_B", frames_B, logits_BTV.shape[0], 0, logits_BTV.shape[1])
