"""Class ids as uint16: −1, the class that does not exist, is stored as 65,535."""

from __future__ import annotations

import numpy as np

from kdcache.errors import ConfigError, TeacherOutputError

MAX_VOCABULARY = 65_534
ABSENT = 65_535


def check_vocabulary(vocab_size: int) -> None:
    """Raise ConfigError where class ids of such a vocabulary do not fit into 16 bits."""
    if vocab_size > MAX_VOCABULARY:
        raise ConfigError(
            f"class ids are stored in 16 bits: a vocabulary of {vocab_size:,} classes exceeds "
            f"the {MAX_VOCABULARY:,} that fit; keep no ids (top_k 0) or use a smaller tokenizer"
        )


def pack_ids(ids: np.ndarray) -> np.ndarray:
    """uint16, C-contiguous, of class ids in −1 … 65,533.

    Raises:
        ConfigError: an id beyond what 16 bits hold.
        TeacherOutputError: an id below −1.
    """
    check_ids(ids)
    return np.ascontiguousarray(ids.astype(np.uint16))


def check_ids(ids: np.ndarray) -> None:
    """Raise as :func:`pack_ids` where ids do not fit."""
    if ids.size and int(ids.max()) >= MAX_VOCABULARY:
        check_vocabulary(int(ids.max()) + 1)
    if ids.size and int(ids.min()) < -1:
        raise TeacherOutputError(f"expected class ids of −1 or more, got {int(ids.min())}")


def unpack_ids(codes: np.ndarray) -> np.ndarray:
    """int32 class ids, −1 where there is none."""
    ids = codes.astype(np.int32)
    ids[codes == ABSENT] = -1
    return ids


def unpack_ids_into(ids: np.ndarray, codes: np.ndarray) -> None:
    """Like :func:`unpack_ids`, without memory of its own.

    Where all are below 32,768, 16 bits hold −1 as they are, and are copied; others take two
    passes.

    Args:
        ids: of any signed type that holds them, to be set.
        codes: uint16 of the same shape, spoilt.
    """
    signed = codes.view(np.int16)
    if int(signed.min(initial=0)) >= -1:
        np.copyto(ids, signed)
        return
    # 65,535 + 1 is 0 in 16 bits, and taking the 1 away again where there are more leaves −1.
    np.add(codes, np.uint16(1), out=codes)
    np.subtract(codes, 1, out=ids, dtype=ids.dtype)
