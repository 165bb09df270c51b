"""What a node of the lattice can do next: emit nothing (blank) or the next label.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary with
blank, K class ids kept beside blank and label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import InputError
from kdcache.lattice.blocks import node_blocks
from kdcache.lattice.factored import node_class_log_probs

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.lattice.factored import Logits


def node_log_probs(
    logits_BTUV: Logits,
    labels_BU: Tensor,
    blank: int,
    frames_B: Tensor | None = None,
    label_lengths_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank and of the next label at every node.

    Args:
        logits_BTUV: any floating dtype, or what they are made of.
        labels_BU: int64, (B, ≥ U); what lies beyond a length is ignored.
        blank: class id of blank.
        frames_B: T of each utterance; ``None`` means no padding in time.
        label_lengths_B: U of each utterance; ``None`` means that every label that is not
            negative is real.

    Returns:
        ``(blank_BTU, label_BTU)``, both (B, T, U+1), float64 for float64 logits, else float32;
        differentiable with an analytic gradient that takes the room of one lattice. The label
        is −inf where there is none, as in column u = U. Padding is 0.

    Raises:
        InputError: shapes, lengths or class ids do not fit.
    """
    logp_BTU3 = node_classes(logits_BTUV, labels_BU, blank, frames_B, label_lengths_B)
    return logp_BTU3[..., 0], logp_BTU3[..., 1]


def node_classes(
    logits_BTUV: Logits,
    labels_BU: Tensor,
    blank: int,
    frames_B: Tensor | None = None,
    label_lengths_B: Tensor | None = None,
) -> Tensor:
    """Log-probabilities of blank, of the next label and of all the rest, (B, T, U+1, 3).

    Arguments, dtypes and errors are those of :func:`node_log_probs`, which gives the first two.
    """
    ids_BTUK = node_ids(labels_BU, blank, logits_BTUV.shape, label_lengths_B)
    return node_class_log_probs(logits_BTUV, ids_BTUK, frames_B, label_lengths_B)


def node_ids(
    labels_BU: Tensor, blank: int, shape: torch.Size, label_lengths_B: Tensor | None = None
) -> Tensor:
    """Class ids of blank and of the next label: int64 (B, T, U+1, 2), a view.

    The label is −1 where there is none.

    Args:
        labels_BU: int64, (B, ≥ U).
        blank: class id of blank.
        shape: (B, T, U+1, V) of the lattice.
        label_lengths_B: U of each utterance.

    Raises:
        InputError: blank or a label is outside the vocabulary, a label is blank, or there are
            fewer labels than the lattice has columns for.
    """
    batch, frames, columns, vocab = shape
    _check_labels(labels_BU, batch, columns - 1)
    labels_BU = labels_BU[:, : columns - 1]
    if label_lengths_B is not None:
        u_U = torch.arange(columns - 1, device=labels_BU.device)
        real_BU = u_U < label_lengths_B[:, None]
        _check_real_labels(labels_BU[real_BU])
        labels_BU = labels_BU.masked_fill(~real_BU, -1)
    _check_classes(labels_BU, blank, vocab)
    next_BU = torch.nn.functional.pad(labels_BU, (0, 1), value=-1)
    ids_BUK = torch.stack([torch.full_like(next_BU, blank), next_BU], -1)
    return ids_BUK[:, None].expand(batch, frames, columns, 2)


def top_classes(logits_BTUV: Tensor, ids_BTUK: Tensor, count: int) -> Tensor:
    """The most probable classes of each node that are not kept already.

    Args:
        logits_BTUV: any floating dtype.
        ids_BTUK: class ids to leave out, as from :func:`node_ids`.
        count: how many to find.

    Returns:
        int64 (B, T, U+1, count), by decreasing probability; −1 where the vocabulary has no
        more classes of finite logit.
    """
    found_BTUK = ids_BTUK.new_full((*ids_BTUK.shape[:3], count), -1)
    some = min(count, logits_BTUV.shape[3])
    extents = [(ids_BTUK.shape[1], ids_BTUK.shape[2])] * ids_BTUK.shape[0]
    for block in node_blocks(extents, logits_BTUV.shape[3], logits_BTUV.device):
        part_TUK = ids_BTUK[block]
        taken_TUK = torch.where(part_TUK < 0, part_TUK[..., :1], part_TUK)
        best = logits_BTUV[block].scatter(-1, taken_TUK, -torch.inf).topk(some, -1)
        found_BTUK[block][..., :some] = best.indices.masked_fill(best.values.isneginf(), -1)
    return found_BTUK


def _check_labels(labels_BU: Tensor, batch: int, labels: int) -> None:
    if labels_BU.dim() != 2 or labels_BU.shape[0] != batch or labels_BU.shape[1] < labels:
        raise InputError(
            f"Labels have shape {tuple(labels_BU.shape)}; expected ({batch}, at least {labels}), "
            "one label fewer than the lattice has columns."
        )
    if labels_BU.dtype != torch.int64:
        raise InputError(f"Labels are {labels_BU.dtype}; expected int64 class ids.")


def _check_real_labels(real_N: Tensor) -> None:
    if real_N.numel() and int(real_N.min()) < 0:
        raise InputError(
            f"Label {int(real_N.min())} is negative within its utterance's length; expected a "
            "class id. Check the label lengths against the labels."
        )


def _check_classes(labels_BU: Tensor, blank: int, vocab: int) -> None:
    if not 0 <= blank < vocab:
        raise InputError(f"blank is {blank}; expected a class id from 0 to {vocab - 1}.")
    if labels_BU.numel() and int(labels_BU.max()) >= vocab:
        raise InputError(
            f"Label {int(labels_BU.max())} is outside the vocabulary of {vocab} classes. Check "
            "that labels and model share one tokenizer."
        )
    if bool((labels_BU == blank).any()):
        raise InputError(
            f"Labels hold {blank}, which is the id of blank; a transcript cannot hold blank. Pad "
            "labels with −1, or give their lengths."
        )
