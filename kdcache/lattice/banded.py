"""Tensors over the nodes of a band, and the RNN-T loss confined to it.

Of frame t a band keeps the nodes u = s[t] … s[t]+S−1 (``kdcache.lattice.band``). What is known
of them is a tensor (B, T, S, …) beside the starts (B, T), and the joint network need never be
evaluated elsewhere: T×S×V instead of T×U×V.

The confined loss is −log of the probability of all alignments that stay in the band. Arcs that
leave it have probability 0: what is outside gets arcs of −inf in a lattice without vocabulary
axis, which costs nothing beside the logits, and the recursion of ``scan.py`` does the rest,
analytic gradient included. It is never less than the full loss, and equal to it for S = U+1.

An utterance narrower than the padded batch has its own width, S = U + 1 − s[T−1], since the last
window ends at column U. Places beyond it are padding, as frames beyond T are.

Shapes: B batch, T encoder frames, U labels (a node axis has U+1 entries), S band width of the
padded batch, V vocabulary with blank, K class ids, X any trailing axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import InputError
from kdcache.lattice.factored import FactoredLogits, node_class_log_probs
from kdcache.lattice.lengths import node_mask, parse_extents
from kdcache.lattice.nodes import node_ids
from kdcache.lattice.transducer import transducer_nll

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.lattice.factored import Logits
    from kdcache.lattice.reduction import Reduction


def rnnt_loss_banded(
    logits_BTSV: Logits,
    starts_BT: Tensor,
    labels_BU: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    blank: int,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood of the labels over the alignments in a band, in nats.

    Args:
        logits_BTSV: any floating dtype, not normalised; place s of frame t is node
            (t, starts[t] + s). Or factors of a lattice's logits, of which no node but the band's
            is multiplied out.
        starts_BT: int64, first column of each window; what lies beyond T is ignored.
        labels_BU: int64, (B, ≥ U); what lies beyond a length is ignored.
        frames_B: T ≥ 1 of each utterance, int64.
        label_lengths_B: U ≥ 0 of each utterance, int64.
        blank: class id of blank.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Returns:
        float64 for float64 logits, else float32; the gradient is zero in padding. NaN and
        impossible labels are as in :func:`kdcache.lattice.rnnt_loss`.

    Raises:
        InputError: shapes, lengths or class ids do not fit, or the starts are no band.
        ConfigError: the reduction is unknown.
    """
    shape, columns_BTS = logits_BTSV.shape, None
    widths_B = parse_band(starts_BT, shape, frames_B, label_lengths_B)
    if isinstance(logits_BTSV, FactoredLogits):
        shape = torch.Size((*shape[:2], int(widths_B.max()), shape[3]))
        columns_BTS = band_columns(starts_BT, shape[2], int(label_lengths_B.max()) + 1)
    ids_BTSK = band_ids(labels_BU, blank, shape, starts_BT, label_lengths_B)
    logp_BTSC = node_class_log_probs(logits_BTSV, ids_BTSK, frames_B, widths_B - 1, columns_BTS)
    arcs = logp_BTSC[..., 0], logp_BTSC[..., 1]
    return transducer_nll_banded(*arcs, starts_BT, frames_B, label_lengths_B, reduction)


def transducer_nll_banded(
    blank_BTS: Tensor,
    label_BTS: Tensor,
    starts_BT: Tensor,
    frames_B: Tensor,
    label_lengths_B: Tensor,
    reduction: Reduction = "mean",
) -> Tensor:
    """The confined loss on log-probabilities of a band's arcs, differentiable in both.

    Args:
        blank_BTS: log-probability of blank at each node of the band.
        label_BTS: log-probability of the next label; where it leaves the band it is ignored.
        starts_BT: int64, first column of each window.
        frames_B: T ≥ 1 of each utterance, int64.
        label_lengths_B: U ≥ 0 of each utterance, int64.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Raises:
        InputError: the lengths do not fit, or the starts are no band.
        ConfigError: the reduction is unknown.
    """
    widths_B = parse_band(starts_BT, blank_BTS.shape, frames_B, label_lengths_B)
    columns = int(label_lengths_B.max()) + 1
    outside_BTS = ~node_mask(frames_B, widths_B - 1, *blank_BTS.shape[1:])
    blank_BTU, label_BTU = (
        over_lattice(x_BTS.masked_fill(outside_BTS, -torch.inf), starts_BT, columns)
        for x_BTS in (blank_BTS, label_BTS)
    )
    return transducer_nll(blank_BTU, label_BTU, frames_B, label_lengths_B, reduction)


def parse_band(
    starts_BT: Tensor, shape: torch.Size, frames_B: Tensor, label_lengths_B: Tensor
) -> Tensor:
    """S of each utterance: int64 (B,).

    Args:
        starts_BT: int64.
        shape: (B, T, S, …) of what the band is padded to.
        frames_B: T ≥ 1 of each utterance.
        label_lengths_B: U of each utterance.

    Raises:
        InputError: lengths or shapes do not fit, or the starts are no connected band from the
            first node to the last.
    """
    if starts_BT.shape != shape[:2] or starts_BT.dtype != torch.int64:
        raise InputError(
            f"starts_BT is {starts_BT.dtype} of shape {tuple(starts_BT.shape)}; expected int64 of "
            f"shape {tuple(shape[:2])}, a start for each frame."
        )
    roomy = torch.Size((*shape[:2], int(label_lengths_B.max()) + 1))
    parse_extents(frames_B, label_lengths_B, roomy, min_frames=1)
    widths_B = band_widths(starts_BT, frames_B, label_lengths_B)
    step_BT = starts_BT.diff(dim=1)
    t_T = torch.arange(1, shape[1], device=starts_BT.device)
    connected_BT = (step_BT >= 0) & (step_BT < widths_B[:, None]) | (t_T >= frames_B[:, None])
    good_B = (starts_BT[:, 0] == 0) & (widths_B >= 1) & (widths_B <= shape[2])
    bad = (~(good_B & connected_BT.all(1))).nonzero()[:, 0].tolist()
    if bad:
        raise InputError(
            f"starts_BT[{bad[0]}] are no band of at most {shape[2]} columns: expected starts from "
            "0 on, each at most S − 1 after the last, and a last window that ends at column U."
        )
    return widths_B


def band_widths(starts_BT: Tensor, frames_B: Tensor, label_lengths_B: Tensor) -> Tensor:
    """S of each utterance, whose last window ends at column U: int64 (B,)."""
    rows_B = torch.arange(starts_BT.shape[0], device=starts_BT.device)
    return label_lengths_B + 1 - starts_BT[rows_B, frames_B - 1]


def band_ids(
    labels_BU: Tensor,
    blank: int,
    shape: torch.Size,
    starts_BT: Tensor,
    label_lengths_B: Tensor,
) -> Tensor:
    """Class ids of blank and of the next label of a band's nodes: int64 (B, T, S, 2).

    Args:
        labels_BU: int64, (B, ≥ U).
        blank: class id of blank.
        shape: (B, T, S, V) of the logits at the band's nodes.
        starts_BT: int64.
        label_lengths_B: U of each utterance.

    Raises:
        InputError: as :func:`kdcache.lattice.node_ids`.
    """
    batch, _, width, vocab = shape
    columns = int(label_lengths_B.max()) + 1
    column = torch.Size((batch, 1, columns, vocab))
    ids_B1UK = node_ids(labels_BU, blank, column, label_lengths_B)
    columns_BTS = band_columns(starts_BT, width, columns)
    return ids_B1UK[:, 0][_rows(columns_BTS), columns_BTS]


def band_columns(starts_BT: Tensor, width: int, columns: int) -> Tensor:
    """Column u of each place of each window, padding set to the last: int64 (B, T, S)."""
    place_S = torch.arange(width, device=starts_BT.device)
    return (starts_BT[..., None] + place_S).clamp(0, columns - 1)


def at_band(x_BTUX: Tensor, starts_BT: Tensor, width: int) -> Tensor:
    """What stands at the nodes of a band: (B, T, U+1, X) to (B, T, S, X), differentiable.

    Places beyond an utterance's own width hold what stands at some other of its nodes.
    """
    batch, frames = starts_BT.shape
    x_BTUX = x_BTUX[:, :frames]
    columns = x_BTUX.shape[2]
    columns_BTS = band_columns(starts_BT, width, columns)
    row_BT1 = torch.arange(batch * frames, device=starts_BT.device).view(batch, frames, 1)
    flat_N = (row_BT1 * columns + columns_BTS).flatten()
    # Rows of a matrix: forward and backward copy runs of memory, where a gather goes by element.
    picked_NX = x_BTUX.reshape(batch * frames * columns, -1).index_select(0, flat_N)
    return picked_NX.view(batch, frames, width, *x_BTUX.shape[3:])


def ids_over_lattice(ids_BTSK: Tensor, starts_BT: Tensor, columns: int) -> Tensor:
    """Class ids of a band's nodes at their nodes of the lattice: (B, T, U+1, K), −1 elsewhere."""
    batch, frames, width, kept = ids_BTSK.shape
    # Columns beyond U take what pads a window.
    wide_BTUK = ids_BTSK.new_full((batch, frames, columns + width, kept), -1)
    columns_BTS = band_columns(starts_BT, width, columns + width)
    wide_BTUK.scatter_(2, columns_BTS[..., None].expand_as(ids_BTSK), ids_BTSK)
    return wide_BTUK[:, :, :columns]


def over_lattice(x_BTS: Tensor, starts_BT: Tensor, columns: int) -> Tensor:
    """A band's values at their nodes of the lattice, −inf elsewhere: (B, T, U+1).

    Args:
        x_BTS: −inf in padding.
        starts_BT: int64, first column of each window.
        columns: U+1.
    """
    batch, frames, width = x_BTS.shape
    wide_BTU = x_BTS.new_full((batch, frames, columns + width), -torch.inf)
    columns_BTS = band_columns(starts_BT, width, columns + width)
    return wide_BTU.scatter(2, columns_BTS, x_BTS)[:, :, :columns]


def _rows(x_BTS: Tensor) -> Tensor:
    return torch.arange(x_BTS.shape[0], device=x_BTS.device)[:, None, None]
