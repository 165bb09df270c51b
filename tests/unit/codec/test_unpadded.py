"""Rows of different lengths come into arrays that are as wide as a batch asks for."""

from __future__ import annotations

import numpy as np
import pytest

from kdcache.codec.unpadded import Unpadded

INF = np.inf

ROWS = Unpadded(
    count_N=np.array([3, 0, 1, 2]),
    first_N=np.array([7, 9, 5, 70_000]),
    lead_N=np.array([-1.0, -INF, -2.0, -3.0]),
    rest_N=np.array([-INF, 0.0, -4.0, -5.0]),
    row_M=np.array([0, 0, 3]),
    id_M=np.array([2, 8, 1]),
    logp_M=np.array([-6.0, -7.0, -8.0], np.float32),
    tail=None,
)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("wider", [0, 1, 5])
def test_rows_are_padded_to_any_width(dtype: type, wider: int) -> None:
    logp_NC, ids_NK = np.full((4, 4 + wider), 9.0, np.float32), np.full((4, 3 + wider), 9, dtype)
    ROWS.write(logp_NC, ids_NK)
    more = [-INF] * wider
    expected = [
        [-1.0, -6.0, -7.0, *more, -INF],
        [-INF, -INF, -INF, *more, 0.0],
        [-2.0, -INF, -INF, *more, -4.0],
        [-3.0, -8.0, -INF, *more, -5.0],
    ]
    assert logp_NC.tolist() == expected
    none = [-1] * wider
    ids = [[7, 2, 8, *none], [-1, -1, -1, *none], [5, -1, -1, *none], [70_000, 1, -1, *none]]
    assert ids_NK.tolist() == ids


def test_the_widest_row_is_known() -> None:
    assert ROWS.kept == 3


@pytest.mark.parametrize("rows", [0, 2])
def test_rows_without_classes(rows: int) -> None:
    none, zeros = np.zeros(0, np.int64), np.zeros(rows)
    empty = Unpadded(
        zeros.astype(int), zeros.astype(int), zeros - INF, zeros, none, none, none, None
    )
    assert empty.kept == 0
    logp_NC, ids_NK = np.full((rows, 3), 9.0, np.float32), np.full((rows, 2), 9)
    empty.write(logp_NC, ids_NK)
    assert logp_NC.tolist() == [[-INF, -INF, 0.0]] * rows
    assert ids_NK.tolist() == [[-1, -1]] * rows
