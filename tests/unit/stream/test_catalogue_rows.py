"""Strings and lists of some rows are what Arrow says they are, wherever the column lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.stream.catalogue import Integers, Strings

STRINGS = st.lists(st.text(max_size=5), min_size=1, max_size=8)
LISTS = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4), min_size=1, max_size=8)


def chunked(values: list[Any], kind: pa.DataType, data: st.DataObject) -> pa.ChunkedArray:
    """The values in one or two pieces, one of them a slice of something larger."""
    cut = data.draw(st.integers(0, len(values)))
    padded = pa.array([*values[:1], *values, *values[:1]], kind)
    pieces = [padded.slice(1, cut), padded.slice(1 + cut, len(values) - cut)]
    return pa.chunked_array(pieces if data.draw(st.booleans()) else [padded.slice(1, len(values))])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@given(values=STRINGS, data=st.data())
def test_strings(kind: pa.DataType, values: list[str], data: st.DataObject) -> None:
    column = chunked(values, kind, data)
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9))
    assert Strings(column).take(rows) == [values[row] for row in rows]


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.int32())])
@given(values=LISTS, data=st.data())
def test_lists(kind: pa.DataType, values: list[list[int]], data: st.DataObject) -> None:
    column = chunked(values, kind, data)
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=9))
    found = Integers(column).take(rows)
    assert [array.tolist() for array in found] == [values[row] for row in rows]
    assert all(array.dtype == np.int64 for array in found)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_column_without_rows(kind: pa.DataType) -> None:
    assert Strings(pa.chunked_array([], kind)).take([]) == []
    assert Integers(pa.chunked_array([], pa.list_(pa.int32()))).take([]) == []
