"""Numbers by context: each call's come back, nothing is stored of the contexts, damage is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.codec import golomb
from kdcache.codec.contexts import Cursor, Reader, Writer, to_varint
from kdcache.errors import DamagedCacheError

NUMBERS = st.lists(
    st.tuples(st.integers(0, 2), st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 70_000))),
    max_size=60,
)
CONTEXTS = 6


def written(calls: list[tuple[np.ndarray, np.ndarray]], contexts: int = CONTEXTS) -> np.ndarray:
    writer = Writer(contexts)
    for call in calls:
        assert writer(*call) is call[1]
    return np.frombuffer(writer.to_bytes(), np.uint8)


def as_calls(lists: list[list[tuple[int, int]]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Contexts 0 to 2 in the first call, 3 to 5 in the second."""
    calls = []
    for first, pairs in zip((0, 3), lists, strict=True):
        context = np.array([first + c for c, _ in pairs], np.uint8)
        calls.append((context, np.array([x for _, x in pairs], np.int64)))
    return calls


@settings(max_examples=150, deadline=None, derandomize=True)
@given(NUMBERS, NUMBERS)
def test_numbers_come_back(one: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
    calls = as_calls([one, two])
    reader = Reader([written(calls)], CONTEXTS)
    for context, numbers in calls:
        assert np.array_equal(reader(context, np.zeros(0, np.int64)), numbers)
    reader.close()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_records_are_read_together(
    records: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    calls = [as_calls(list(pair)) for pair in records]
    reader = Reader([written(one) for one in calls], CONTEXTS)
    for call in range(2):
        contexts = [one[call][0] + np.uint8(i * CONTEXTS) for i, one in enumerate(calls)]
        found = reader(np.concatenate(contexts), np.zeros(0, np.int64))
        assert np.array_equal(found, np.concatenate([one[call][1] for one in calls]))
    reader.close()


def test_what_one_of_the_records_lacks_the_next_does_not_give() -> None:
    one = (np.zeros(40, np.uint8), np.arange(40) * 3)
    packed = written([one], 1)
    both = np.concatenate([one[0], one[0] + np.uint8(1)])
    assert np.array_equal(
        Reader([packed, packed], 1)(both, one[1]), np.concatenate([one[1], one[1]])
    )
    with pytest.raises(DamagedCacheError, match="bytes of packed numbers"):
        Reader([packed[:-4], packed], 1)(both, one[1])
    with pytest.raises(DamagedCacheError, match="40 more packed numbers, expected 41"):
        Reader([packed, packed], 1)(np.append(both, np.uint8(0)), one[1])
    reader = Reader([packed, packed], 1)
    reader(both[40:], one[1])
    with pytest.raises(DamagedCacheError, match="40 packed numbers too many"):
        reader.close()


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.1, 0.9, 6.0])
def test_a_context_takes_little_more_than_its_entropy(mean: float) -> None:
    numbers = np.random.default_rng(3).geometric(1 / (1 + mean), 10_000) - 1
    size = len(written([(np.zeros(len(numbers), np.uint8), numbers)], 1))
    p = 1 / (1 + mean)
    entropy = -(np.log2(p) + (np.log2(1 - p) * (1 - p) / p if mean else 0)) * len(numbers) / 8
    assert 0.97 * entropy <= size <= 1.16 * entropy + 6


def test_zeros_are_a_byte_a_context() -> None:
    zeros = np.zeros(5000, np.int64)
    assert written([(zeros.astype(np.uint8), zeros)], 2).tolist() == [255, 255, 0]


@given(st.integers(0, 2**35 - 1))
def test_counts_come_back(number: int) -> None:
    packed = np.frombuffer(to_varint(number), np.uint8)
    cursor = Cursor(packed)
    assert cursor.varint() == number
    assert cursor.at == len(packed) == max(1, -(-number.bit_length() // 7))


def test_bytes_that_break_off_are_damage() -> None:
    with pytest.raises(DamagedCacheError, match="breaks off after 0 bytes"):
        Cursor(np.zeros(0, np.uint8)).byte()
    with pytest.raises(DamagedCacheError, match="has no end"):
        Cursor(np.full(9, 255, np.uint8)).varint()


def test_numbers_that_do_not_fit_the_calls_are_damage() -> None:
    context, none = np.zeros(50, np.uint8), np.zeros(0, np.int64)
    packed = written([(context, np.arange(50) + 1)], 1)
    with pytest.raises(DamagedCacheError, match="50 more packed numbers, expected 60"):
        Reader([packed], 1)(np.zeros(60, np.uint8), none)
    reader = Reader([packed], 1)
    reader(context[:49], none)
    with pytest.raises(DamagedCacheError, match="1 packed numbers too many"):
        reader.close()


def test_runs_beyond_the_numbers_are_damage() -> None:
    numbers = np.zeros(1000, np.int64)
    numbers[[500, 900]] = 1
    packed = written([(numbers.astype(np.uint8) * 0, numbers)], 1)
    assert packed[0] & 64
    with pytest.raises(DamagedCacheError, match="runs of 901 numbers, expected 800"):
        Reader([packed], 1)(np.zeros(800, np.uint8), np.zeros(0, np.int64))


def test_a_reader_takes_streams_some_at_a_time() -> None:
    streams = [np.arange(7), np.arange(30) % 4, np.array([900, 0])]
    codes = [golomb.best_code(stream) for stream in streams]
    packed = [np.frombuffer(part, np.uint8) for part in golomb.encode(streams, codes)]
    reader = golomb.Reader([packed])
    first = reader.read(codes[:1], [7], [7])
    second = reader.read(codes[1:], [30, 2], [32])
    assert [x.tolist() for x in (*first, *second)] == [s.tolist() for s in streams]
    assert reader.left == 0
    with pytest.raises(DamagedCacheError, match="0 more packed numbers, expected 1"):
        reader.read(codes[:1], [1], [1])
