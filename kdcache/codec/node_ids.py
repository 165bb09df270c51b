"""Class ids of the K more classes of nodes: those of odd frames by their neighbours' ids.

A node's likeliest classes are mostly those of the node a frame before, often in the same order.
So ids of odd frames are written as places in that node's list (of the node after, where there is
none before), in which a slot's own place comes first; an id that is not in the list as K and what
an id of an even frame is. That is one more than the id, as −1 is an id too.

Shapes: N nodes, K more classes; the arrays of nodes have one more row, −1, for the neighbour that
does not exist. I nodes of odd or of even frames, J = I·K.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kdcache.codec.nodes import CONTEXTS as NODE_CONTEXTS
from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from kdcache.codec.contexts import Coder
    from kdcache.codec.windows import Windows

_EVEN, _ODD = NODE_CONTEXTS, NODE_CONTEXTS + 1
CONTEXTS = NODE_CONTEXTS + 2
_LARGEST = 65_535


def visit_ids(coder: Coder, windows: Windows, ids_NK: np.ndarray) -> None:
    """Go through the ids of a lattice; a reader fills them in.

    Args:
        coder: what writes or reads.
        windows: of the lattice.
        ids_NK: int32 (N+1, K), −1 to 65,533.

    Raises:
        DamagedCacheError: an id that was read is none.
    """
    if not ids_NK.shape[1]:
        return
    even, odd = windows.even, windows.odd
    ids_NK[even] = _called(coder, windows.base_N[even] + _EVEN, ids_NK[even] + 1) - 1
    # The node before has the smaller index, and one that does not exist has the largest.
    near_IK = ids_NK[np.minimum(windows.before_N, windows.after_N)[odd]]
    place_IK = _called(coder, windows.base_N[odd] + _ODD, _places(ids_NK[odd], near_IK))
    ids_NK[odd] = _ids(place_IK, near_IK)
    if int(ids_NK.max(initial=0)) >= _LARGEST:
        raise DamagedCacheError(f"a class id of {int(ids_NK.max()):,}")


def _called(coder: Coder, context_I: np.ndarray, number_IK: np.ndarray) -> np.ndarray:
    context_J = np.repeat(context_I, number_IK.shape[1])
    return coder(context_J, number_IK.reshape(-1)).reshape(number_IK.shape)


def _places(ids_IK: np.ndarray, near_IK: np.ndarray) -> np.ndarray:
    """Ids as places in the neighbours' lists, or as K and the id and one."""
    kept = ids_IK.shape[1]
    slot_IK = np.full(ids_IK.shape, kept)
    for slot in reversed(range(kept)):
        slot_IK[ids_IK == near_IK[:, slot : slot + 1]] = slot
    own_K = np.arange(kept)
    place_IK = np.where(slot_IK < own_K, slot_IK + 1, slot_IK)
    place_IK[ids_IK == near_IK] = 0
    found: np.ndarray = np.where(slot_IK == kept, kept + 1 + ids_IK, place_IK)
    return found


def _ids(place_IK: np.ndarray, near_IK: np.ndarray) -> np.ndarray:
    """Inverse of :func:`_places`."""
    kept = place_IK.shape[1]
    own_K = np.arange(kept)
    slot_IK = np.where(place_IK <= own_K, place_IK - 1, place_IK)
    slot_IK = np.where(place_IK == 0, own_K, slot_IK).clip(max=kept - 1)
    listed_IK = np.take_along_axis(near_IK, slot_IK, axis=1)
    found: np.ndarray = np.where(place_IK < kept, listed_IK, place_IK - kept - 1)
    return found
