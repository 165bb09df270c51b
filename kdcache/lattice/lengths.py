"""Which nodes of a padded lattice are real.

An utterance with T frames and U labels owns the nodes t < T, u ≤ U. The rest of the padded
lattice is padding, which no function of this room reads: a NaN there changes nothing.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def parse_extents(
    frames_B: Tensor | None,
    label_lengths_B: Tensor | None,
    shape: Sequence[int],
    min_frames: int = 0,
) -> list[tuple[int, int]]:
    """Real extent (T, U+1) of each utterance, as plain integers.

    Args:
        frames_B: T of each utterance; ``None`` means that all frames are real.
        label_lengths_B: U of each utterance; ``None`` means that all columns are real.
        shape: (B, T, U+1, …) of the padded lattice.
        min_frames: 1 where a path must exist.

    Raises:
        InputError: a length is not there for every utterance, or does not fit the lattice.
    """
    batch, frames, columns = shape[:3]
    frame_list = parse_lengths("frames_B", frames_B, batch, min_frames, frames)
    label_list = parse_lengths("label_lengths_B", label_lengths_B, batch, 0, columns - 1)
    return [(t, u + 1) for t, u in zip(frame_list, label_list, strict=True)]


def parse_lengths(
    name: str, lengths_B: Tensor | None, batch: int, low: int, high: int
) -> list[int]:
    """Lengths as plain integers from ``low`` to ``high``; ``None`` means all are ``high``.

    Raises:
        InputError: there is not one length for each utterance, or one is out of range.
    """
    if lengths_B is None:
        return [high] * batch
    if lengths_B.shape != (batch,):
        raise InputError(
            f"{name} has shape {tuple(lengths_B.shape)}; expected one length for each of the "
            f"{batch} utterances."
        )
    lengths: list[int] = lengths_B.tolist()
    for row, length in enumerate(lengths):
        if not low <= length <= high:
            raise InputError(
                f"{name}[{row}] is {length}; expected {low} to {high}, for which the padded "
                "batch has room. Check that lengths count encoder frames and labels."
            )
    return lengths


def node_mask(frames_B: Tensor, label_lengths_B: Tensor, frames: int, columns: int) -> Tensor:
    """True at real nodes: bool (B, T, U+1) for a lattice padded to ``frames``, ``columns``."""
    t_T = torch.arange(frames, device=frames_B.device)
    u_U = torch.arange(columns, device=frames_B.device)
    real_BT = t_T < frames_B[:, None]
    real_BU = u_U <= label_lengths_B[:, None]
    return real_BT[:, :, None] & real_BU[:, None, :]
