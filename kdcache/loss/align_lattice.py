"""A teacher's lattice on the frames of a student with another frame rate, or with other timing.

A path through a lattice takes a blank for every frame, so that lattices of one utterance at two
frame rates have nodes of different meaning: blank of a slow student is all blanks of the r frames
that its frame stands for. What can be said of them is what happens *first* at a column u from the
beginning of a group of frames on. With q_c(i) the teacher's class c at frame i of the group,

    merged (teacher the faster)     q_∅ = Π_i q_∅(i)        q_c = Σ_i q_c(i) Π_{j<i} q_∅(j)
    split (student the faster)      p_∅ = q_∅^(1/r)         p_c = q_c (1 − p_∅) / (1 − q_∅)

Both sum to one wherever the teacher does. Splitting gives each of r frames the same chance to
leave the column, and merging what was split gives the teacher back. Either is exact for a frame's
first label, and an approximation after it, since the student's lattice does not know where within
the frame the label was. Picking every r-th frame is no such thing: the label that a teacher
emits between would become a blank.

Merging joins the K more classes with the rest, because each frame has others. Of a band it is
refused, since the windows of a group's frames do not lie over the same columns.

A band that is moved in time, or cut, must still lead from the first node to the last: its windows
then go there as fast as windows may, and frames whose windows were changed for it do not count.

Shapes: B batch, T frames of the target, G groups of r frames, S columns of a frame's window, K kept
class ids, C = 3+K classes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from kdcache.errors import SpecMismatchError
from kdcache.loss.frames import SAME, FrameRatio, check_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcache.batch import LatticeBatch


def align_lattice(
    target: LatticeBatch,
    frames_B: Tensor,
    ratio: FrameRatio = SAME,
    shift: int = 0,
    ids: Sequence[str] | None = None,
) -> LatticeBatch:
    """The target on the student's frames: what ``lattice_kl`` and ``transducer_kd_loss`` take.

    Frames of the student that have no counterpart, at either end, have no probability at all in
    the target, so that they add nothing to a divergence; an RNN-T loss is over all frames.

    Args:
        target: the teacher's.
        frames_B: T of the student, int64.
        ratio: frames of the teacher to frames of the student.
        shift: frame t + shift of the student learns from the teacher's frame at t.
        ids: names for the error.

    Raises:
        SpecMismatchError: lengths differ by more than rounding, by name; or a band would have to
            be merged, or does not reach its end in the student's frames.
    """
    check_frames(target.frames_B, frames_B, ratio, ids)
    if ratio.teacher > 1:
        target = merge_frames(target, ratio.teacher)
    elif ratio.student > 1:
        target = split_frames(target, ratio.student)
    if shift == 0 and torch.equal(target.frames_B, frames_B):
        return target
    return _moved(target, frames_B, shift, ids)


def merge_frames(target: LatticeBatch, factor: int) -> LatticeBatch:
    """Groups of ``factor`` frames as one: what happens first at each column. K becomes 0.

    A last group that is not whole stands for the frames that it has.

    Raises:
        SpecMismatchError: the target is a band.
    """
    if target.starts_BT is not None:
        raise SpecMismatchError(
            "The cached lattice is a band, which cannot be merged for a slower student: the "
            "windows of its frames lie over different columns. Extract a whole lattice (without "
            "epsilon and width), or set loss.lattice_kl to 0."
        )
    first_BGRSC = _groups(_three_classes(target), target.frames_B, factor)
    blank_BGRS = first_BGRSC[..., 0]
    before_BGRS = blank_BGRS.cumsum(2).roll(1, 2)
    before_BGRS[:, :, 0] = 0.0
    others_BGSC = (first_BGRSC[..., 1:] + before_BGRS[..., None]).logsumexp(2)
    logp_BGSC = torch.cat([blank_BGRS.sum(2)[..., None], others_BGSC], -1)
    none_BGSK = target.ids_BTSK.new_empty((*logp_BGSC.shape[:3], 0))
    frames_B = (target.frames_B + factor - 1) // factor
    return replace(target, logp_BTSC=logp_BGSC, ids_BTSK=none_BGSK, frames_B=frames_B)


def split_frames(target: LatticeBatch, factor: int) -> LatticeBatch:
    """Every frame as ``factor``, each with the same chance to leave the column."""
    blank_BTS1 = target.logp_BTSC[..., :1]
    share_BTS1 = torch.log(-torch.expm1(blank_BTS1 / factor)) - torch.log(-torch.expm1(blank_BTS1))
    # The limit of certain blanks; and padding, which is not normalised.
    share_BTS1 = share_BTS1.where(blank_BTS1 < 0, -math.log(factor))
    logp_BTSC = torch.cat([blank_BTS1 / factor, target.logp_BTSC[..., 1:] + share_BTS1], -1)
    starts_BT = target.starts_BT
    return replace(
        target,
        logp_BTSC=logp_BTSC.repeat_interleave(factor, 1),
        ids_BTSK=target.ids_BTSK.repeat_interleave(factor, 1),
        frames_B=target.frames_B * factor,
        starts_BT=None if starts_BT is None else starts_BT.repeat_interleave(factor, 1),
    )


def _three_classes(target: LatticeBatch) -> Tensor:
    """Blank, label, and all others as one: (B, T, S, 3)."""
    rest_BTS = target.logp_BTSC[..., 2:].logsumexp(-1)
    return torch.cat([target.logp_BTSC[..., :2], rest_BTS[..., None]], -1)


def _groups(logp_BTSC: Tensor, frames_B: Tensor, factor: int) -> Tensor:
    """(B, G, r, S, 3); frames beyond an utterance's are passed for certain."""
    extra = -logp_BTSC.shape[1] % factor
    logp_BTSC = torch.nn.functional.pad(logp_BTSC, (0, 0, 0, 0, 0, extra))
    t_T = torch.arange(logp_BTSC.shape[1], device=frames_B.device)
    padding_BT = t_T >= frames_B[:, None]
    passed_C = logp_BTSC.new_tensor([0.0, -torch.inf, -torch.inf])
    logp_BTSC = torch.where(padding_BT[:, :, None, None], passed_C, logp_BTSC)
    batch, frames, *node = logp_BTSC.shape
    return logp_BTSC.view(batch, frames // factor, factor, *node)


def _moved(
    target: LatticeBatch, frames_B: Tensor, shift: int, ids: Sequence[str] | None
) -> LatticeBatch:
    """On ``frames_B`` frames, ``shift`` of them later; nothing where there is no counterpart."""
    t_T = torch.arange(int(frames_B.max()), device=frames_B.device)
    from_T = t_T - shift
    missing_BT = (from_T < 0) | (from_T >= target.frames_B[:, None])
    index_T = from_T.clamp(0, target.logp_BTSC.shape[1] - 1)
    starts_BT = target.starts_BT
    if starts_BT is not None:
        index_BT = torch.minimum(index_T, target.frames_B[:, None] - 1)
        wanted_BT = starts_BT.gather(1, index_BT)
        starts_BT = _connected(target, wanted_BT, frames_B, ids)
        missing_BT = missing_BT | (starts_BT != wanted_BT)
    missing_BT11 = missing_BT[:, :, None, None]
    return replace(
        target,
        logp_BTSC=target.logp_BTSC[:, index_T].masked_fill(missing_BT11, -torch.inf),
        ids_BTSK=target.ids_BTSK[:, index_T].masked_fill(missing_BT11, -1),
        frames_B=frames_B,
        starts_BT=starts_BT,
    )


def _connected(
    target: LatticeBatch, starts_BT: Tensor, frames_B: Tensor, ids: Sequence[str] | None
) -> Tensor:
    """Starts of a band, changed where windows would leave from or arrive at the wrong column."""
    assert target.starts_BT is not None
    last_B1 = target.starts_BT.gather(1, target.frames_B[:, None] - 1)
    most_B1 = target.labels_B[:, None] - last_B1  # S − 1, by which a window may rise
    t_T = torch.arange(starts_BT.shape[1], device=starts_BT.device)
    left_BT = (frames_B[:, None] - 1 - t_T).clamp(min=0)
    starts_BT = torch.minimum(starts_BT, most_B1 * t_T)
    starts_BT = torch.maximum(starts_BT, last_B1 - most_B1 * left_BT)
    stuck = (starts_BT[:, 0] > 0).nonzero()[:, 0].tolist()
    if stuck:
        row = stuck[0]
        name = f"Utterance {ids[row]!r}" if ids is not None else f"Row {row}"
        raise SpecMismatchError(
            f"{name}: a band of {int(most_B1[row]) + 1} columns does not get from the first of "
            f"{int(target.labels_B[row])} labels to the last in the student's "
            f"{int(frames_B[row])} frames. Extract a wider one."
        )
    return starts_BT
