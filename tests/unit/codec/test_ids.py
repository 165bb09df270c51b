"""Class ids in 16 bits, and back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdcache.codec.ids import MAX_VOCABULARY, pack_ids, unpack_ids, unpack_ids_into

IDS = hnp.arrays(np.int32, hnp.array_shapes(max_dims=3), elements=st.integers(-1, 65_533))


@given(ids=IDS)
def test_ids_come_back(ids: np.ndarray) -> None:
    codes = pack_ids(ids)
    assert codes.dtype == np.uint16
    np.testing.assert_array_equal(unpack_ids(codes), ids)
    found = np.full(ids.shape, 7, np.int64)
    unpack_ids_into(found, codes)
    np.testing.assert_array_equal(found, ids)


def test_the_ends_of_the_range() -> None:
    found = np.empty(3, np.int64)
    unpack_ids_into(found, pack_ids(np.array([-1, 0, MAX_VOCABULARY - 1])))
    assert found.tolist() == [-1, 0, 65_533]
