"""The way through a lattice's nodes on which each is told by what is known of its neighbours.

Each node has a *lead*, its likeliest class, and codes of its other classes. Teachers change their
mind gradually, so that nodes are like their neighbours a frame before and after. Even frames come
first and know nothing of each other; odd frames then know both neighbours. So four calls to the
coder, of whole arrays, are enough, where a way from frame to frame would take one for each.

    call             numbers                              context
    leads, even      rank of the lead, blank first        1
    leads, odd       rank of the lead, those of the       3 where both neighbours have one lead,
                     neighbours first                     else 2
    codes, even      of classes that are not the lead     4 + how many neighbours have them as lead
    codes, odd       of classes that are not the lead     7 + how large the neighbours' codes are

Context 0 is left to the caller, for what has to be known before. Ranks: first the lead of the node
before (of the one after, where there is none; blank, where there is neither), then the lead of the
node after, then all other classes in their order. Codes of a node are called one class after the
other. The size of the neighbours' codes is in how many of ``SIZES`` their sum reaches; where one
is missing the other counts twice, a lead counts as the largest code, a class without probability
as 0.

Shapes: N nodes, C classes, I nodes of a call; ``lead_N`` and ``codes_NC`` have one more row, −1,
for the neighbour that does not exist.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from kdcache.codec.contexts import Coder
    from kdcache.codec.windows import Windows

_LEADS_EVEN, _LEADS_ODD, _LEADS_ALIKE, _CODES_EVEN, _CODES_ODD = 1, 2, 3, 4, 7
CONTEXTS = 13
"""From 0 on; where there is neither neighbour, the size is 0 as well."""

SIZES = (0, 1, 2, 4, 8)
"""At up to 31 steps; with more, as many times this as 16 goes into the steps."""


def visit(
    coder: Coder,
    windows: Windows,
    lead_N: np.ndarray,
    codes_NC: np.ndarray,
    there_NC: np.ndarray,
    steps: int,
) -> None:
    """Go through the leads and codes of a lattice; a reader fills them in.

    Args:
        coder: what writes or reads.
        windows: of the lattice.
        lead_N: int32 (N+1), the likeliest class of each node.
        codes_NC: int32 (N+1, C), from 0 to ``steps``; that of a lead is not written, and becomes
            the largest. A reader begins with zeros.
        there_NC: bool (N, C), classes of some probability; others have code 0.
        steps: the largest code.

    Raises:
        DamagedCacheError: the numbers that were read are none of a lattice.
    """
    even, odd, before_N, after_N, base_N = windows
    classes = codes_NC.shape[1]
    nowhere = np.full(len(even), len(before_N))
    _leads(coder, even, (nowhere, nowhere), lead_N, base_N[even] + _LEADS_EVEN, classes)
    _leads(coder, odd, (before_N[odd], after_N[odd]), lead_N, base_N[odd] + _LEADS_ODD, classes)
    leads_NC = lead_N[:, None] == np.arange(classes, dtype=np.int32)
    asked_NC = there_NC & ~leads_NC[:-1]
    if np.count_nonzero(there_NC) - np.count_nonzero(asked_NC) < len(before_N):
        raise DamagedCacheError("a node's likeliest class has no probability")
    codes_NC[leads_NC] = steps
    leads = leads_NC.view(np.uint8)
    context = leads.take(before_N[even], 0) + leads.take(after_N[even], 0)
    context += (base_N[even] + _CODES_EVEN)[:, None]
    _codes(coder, even, context, asked_NC, codes_NC, steps)
    before_IC, after_IC = (codes_NC.take(nodes[odd], 0) for nodes in (before_N, after_N))
    context = _sizes(before_IC, after_IC, steps)
    context += base_N[odd][:, None]
    _codes(coder, odd, context, asked_NC, codes_NC, steps)


def _leads(
    coder: Coder,
    nodes_I: np.ndarray,
    beside: tuple[np.ndarray, np.ndarray],
    lead_N: np.ndarray,
    context_I: np.ndarray,
    classes: int,
) -> None:
    """Leads of some nodes, of these contexts where no two neighbours are alike."""
    first_I, second_I = (lead_N[nodes] for nodes in beside)
    alike_I = (first_I == second_I) & (first_I >= 0)
    context_I[alike_I] += _LEADS_ALIKE - _LEADS_ODD
    first_I = np.where(first_I < 0, second_I, first_I).clip(0)
    second_I = np.where(second_I < 0, first_I, second_I)
    rank_I = coder(context_I, _rank(lead_N[nodes_I], first_I, second_I))
    if int(rank_I.max(initial=0)) >= classes:
        raise DamagedCacheError(f"a lead of rank {int(rank_I.max()):,} among {classes} classes")
    lead_N[nodes_I] = _unrank(rank_I, first_I, second_I)


def _rank(lead_I: np.ndarray, first_I: np.ndarray, second_I: np.ndarray) -> np.ndarray:
    """Place of the lead where the neighbours' leads come first."""
    rank_I = lead_I + (lead_I < first_I)
    rank_I += (first_I != second_I) & (lead_I < second_I)
    rank_I[lead_I == second_I] = 1
    rank_I[lead_I == first_I] = 0
    found: np.ndarray = rank_I
    return found


def _unrank(rank_I: np.ndarray, first_I: np.ndarray, second_I: np.ndarray) -> np.ndarray:
    """Inverse of :func:`_rank`."""
    two_I = first_I != second_I
    lead_I = rank_I - 1 - two_I
    lead_I += lead_I >= np.minimum(first_I, second_I)
    lead_I += two_I & (lead_I >= np.maximum(first_I, second_I))
    lead_I = np.where(two_I & (rank_I == 1), second_I, lead_I)
    found: np.ndarray = np.where(rank_I == 0, first_I, lead_I)
    return found


def _sizes(before_IC: np.ndarray, after_IC: np.ndarray, steps: int) -> np.ndarray:
    """Contexts of codes between these neighbours' codes, −1 where there is no neighbour."""
    total_IC = before_IC + after_IC
    alone_IC = (before_IC < 0) != (after_IC < 0)
    total_IC[alone_IC] = 2 * total_IC[alone_IC] + 2
    found: np.ndarray = _size_contexts(steps).take(total_IC + 2)
    return found


@lru_cache(maxsize=8)
def _size_contexts(steps: int) -> np.ndarray:
    """The context of each sum of two neighbours' codes, from −2, where there is none, on."""
    bounds = np.array(SIZES) * max(1, steps // 16)
    reached = np.searchsorted(bounds, np.arange(-2, 2 * steps + 1), side="right")
    contexts: np.ndarray = (reached + _CODES_ODD).astype(np.uint8)
    return contexts


def _codes(
    coder: Coder,
    nodes_I: np.ndarray,
    context_IC: np.ndarray,
    asked_NC: np.ndarray,
    codes_NC: np.ndarray,
    steps: int,
) -> None:
    """Codes of the classes that are asked for; others stay as they are."""
    asked_IC, codes_IC = asked_NC.take(nodes_I, 0), codes_NC.take(nodes_I, 0)
    found = coder(context_IC[asked_IC], codes_IC[asked_IC])
    if int(found.max(initial=0)) > steps:
        raise DamagedCacheError(f"a code of {int(found.max()):,}, expected at most {steps:,}")
    codes_IC[asked_IC] = found
    codes_NC[nodes_I] = codes_IC
