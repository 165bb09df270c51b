"""The way through a lattice's nodes on which each is told by what is known of its neighbours.

Each node has a *lead*, its likeliest class, and codes of its other classes. A node (t, u) has
neighbours before and after it: (t−1, u) and (t+1, u), where their windows reach. Teachers change
their mind gradually, so that neighbours are alike. Even frames come first and know nothing of
each other; odd frames then know the neighbours on both sides. So there are four calls to the
coder, of whole arrays, where a way from frame to frame would take one for each.

    call             numbers                             context
    leads, even      rank of the lead, blank first       1
    leads, odd       rank of the lead, those of the      3 where both neighbours have one lead,
                     neighbours first                    else 2
    codes, even      of classes that are not the lead    4 + how many neighbours have them as lead
    codes, odd       of classes that are not the lead    7 + how large the neighbours' codes are

Context 0 is left to the caller, for what is to be known before.

Ranks: first the lead of the node before (of the one after, where there is none; blank, where there
is neither), then the lead of the node after, then all other classes in their order. The size of
the neighbours' codes is their sum, twice the one where the other is missing; a lead counts as
large as a code can be. It is measured in ``SIZES``.

Shapes: T encoder frames, S columns of a frame's window, N = T·S nodes, C classes; arrays of nodes
have one more row, −1, for the neighbour that does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from kdcache.codec.contexts import Coder

CONTEXTS = 13
SIZES = (0, 1, 2, 4, 8)
"""Sums of neighbours' codes from which on they count as larger, at up to 31 steps; with more steps,
as many times larger as 16 goes into them."""

_LEADS_EVEN, _LEADS_ODD, _LEADS_ALIKE, _CODES_EVEN, _CODES_ODD = 1, 2, 3, 4, 7


def neighbours(starts_T: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the node before and after each node, N where there is none: int64 (N).

    Args:
        starts_T: first column of each window.
        width: S.
    """
    nodes = len(starts_T) * width
    rise_T = np.diff(starts_T.astype(np.int64), prepend=0)
    column_TS = np.arange(width) + rise_T[:, None]
    before_N = ((np.arange(len(starts_T))[:, None] - 1) * width + column_TS).reshape(-1)
    before_N[(column_TS >= width).reshape(-1)] = nodes
    before_N[:width] = nodes
    after_N = np.full(nodes + 1, nodes)
    after_N[before_N] = np.arange(nodes)
    return before_N, after_N[:nodes]


def visit(
    coder: Coder,
    starts_T: np.ndarray,
    lead_N: np.ndarray,
    codes_NC: np.ndarray,
    there_TSC: np.ndarray,
    steps: int,
) -> None:
    """Go through a lattice; a reader fills the arrays in.

    Args:
        coder: what writes or reads.
        starts_T: first column of each window.
        lead_N: int64 (N+1), the likeliest class.
        codes_NC: int64 (N+1, C), from 0 to ``steps``: that of a lead, and never asked for.
        there_TSC: bool (T, S, C), classes of some probability; others have no code.
        steps: the largest code.

    Raises:
        DamagedCacheError: the numbers that were read are none of a lattice.
    """
    frames, width, classes = there_TSC.shape
    there_NC = there_TSC.reshape(-1, classes)
    nodes = len(there_NC)
    index_TS = np.arange(nodes).reshape(frames, width)
    even, odd = index_TS[::2].reshape(-1), index_TS[1::2].reshape(-1)
    before_N, after_N = neighbours(starts_T, width)
    nowhere = np.full(len(even), nodes)
    _leads(coder, even, (nowhere, nowhere), lead_N, _LEADS_EVEN, classes)
    _leads(coder, odd, (before_N[odd], after_N[odd]), lead_N, _LEADS_ODD, classes)
    is_lead_NC = lead_N[:, None] == np.arange(classes)
    if not there_NC[is_lead_NC[:-1]].all():
        raise DamagedCacheError("a node's likeliest class has no probability")
    codes_NC[is_lead_NC] = steps
    asked_NC = there_NC & ~is_lead_NC[:-1]
    leading = is_lead_NC.view(np.uint8)
    context = _CODES_EVEN + leading[before_N[even]] + leading[after_N[even]]
    _codes(coder, even, context, asked_NC, codes_NC)
    context = _sizes(codes_NC[before_N[odd]], codes_NC[after_N[odd]], steps)
    _codes(coder, odd, context, asked_NC, codes_NC)
    if nodes and int(codes_NC.max()) > steps:
        raise DamagedCacheError(f"a code beyond the {steps} of the scale")


def _leads(
    coder: Coder,
    nodes: np.ndarray,
    beside: tuple[np.ndarray, np.ndarray],
    lead_N: np.ndarray,
    otherwise: int,
    classes: int,
) -> None:
    """Leads of some nodes; ``otherwise`` is the context where no two neighbours are alike."""
    first, second = (lead_N[one] for one in beside)
    alike = (first == second) & (first >= 0)
    context = np.where(alike, _LEADS_ALIKE, otherwise)
    first = np.where(first < 0, second, first).clip(0)
    second = np.where(second < 0, first, second)
    rank = coder(context, _rank(lead_N[nodes], first, second))
    if int(rank.max(initial=0)) >= classes:
        raise DamagedCacheError(f"a lead of rank {int(rank.max())} among {classes} classes")
    lead_N[nodes] = _unrank(rank, first, second)


def _rank(lead: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Place of the lead where the neighbours' leads come first."""
    two = first != second
    rank = lead + (lead < first) + (two & (lead < second))
    rank = np.where(lead == second, 1, rank)
    found: np.ndarray = np.where(lead == first, 0, rank)
    return found


def _unrank(rank: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inverse of :func:`_rank`."""
    two = first != second
    lead = rank - 1 - two
    lead += lead >= np.minimum(first, second)
    lead += two & (lead >= np.maximum(first, second))
    lead = np.where(two & (rank == 1), second, lead)
    found: np.ndarray = np.where(rank == 0, first, lead)
    return found


def _sizes(before: np.ndarray, after: np.ndarray, steps: int) -> np.ndarray:
    """Contexts of codes between these neighbours' codes, −1 where there is no neighbour."""
    total = before + after
    alone = (before < 0) != (after < 0)
    total[alone] = 2 * total[alone] + 2
    bounds = np.array(SIZES) * max(1, steps // 16)
    table = _CODES_ODD + np.searchsorted(bounds, np.arange(-2, 2 * steps + 1), side="right")
    found: np.ndarray = table[total + 2]
    return found


def _codes(
    coder: Coder,
    nodes: np.ndarray,
    context: np.ndarray,
    asked_NC: np.ndarray,
    codes_NC: np.ndarray,
) -> None:
    """Codes of the classes that are asked for; others stay as they are."""
    asked = asked_NC[nodes]
    codes = codes_NC[nodes]
    codes[asked] = coder(context[asked], codes[asked])
    codes_NC[nodes] = codes
