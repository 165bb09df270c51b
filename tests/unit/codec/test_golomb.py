"""Golomb codes: every number comes back, in as few bits as either code can do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.codec import golomb
from kdcache.codec.golomb import LARGEST, Code
from kdcache.errors import DamagedCacheError

NUMBERS = st.lists(st.one_of(st.integers(0, 12), st.integers(0, LARGEST)), max_size=40)


def encoded(streams: list[np.ndarray], codes: list[Code]) -> tuple[np.ndarray, np.ndarray]:
    prefixes, mantissas = golomb.encode(streams, codes)
    return np.frombuffer(prefixes, np.uint8), np.frombuffer(mantissas, np.uint8)


def written_out(number: int, code: Code) -> tuple[str, str]:
    """Prefix and mantissa as the module's docstring defines them."""
    if code.exponential:
        length = (number + (1 << code.order)).bit_length() - 1
        prefix, width, low = length - code.order, length, (1 << length) - (1 << code.order)
    else:
        prefix, width = number >> code.order, code.order
        low = prefix << code.order
    mantissa = f"{number - low:b}".zfill(width) if width else ""
    return "0" * prefix + "1", mantissa


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(NUMBERS, max_size=4))
def test_streams_come_back(lists: list[list[int]]) -> None:
    streams = [np.array(numbers, np.int64) for numbers in lists]
    codes = [golomb.best_code(stream) for stream in streams]
    found = golomb.decode(*encoded(streams, codes), codes, [len(s) for s in streams])
    assert [f.tolist() for f in found[: len(streams)]] == lists


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 16), st.booleans())
def test_bits_are_as_defined(numbers: list[int], order: int, exponential: bool) -> None:
    code = Code(order, exponential)
    prefixes, mantissas = encoded([np.array(numbers, np.int64)], [code])
    expected = [written_out(number, code) for number in numbers]
    for packed, part in ((prefixes, 0), (mantissas, 1)):
        bits = "".join(pair[part] for pair in expected)
        unpacked = "".join(map(str, np.unpackbits(packed).tolist()))
        assert unpacked == bits + "0" * (-len(bits) % 8)
    (found,) = golomb.decode(prefixes, mantissas, [code], [len(numbers)])
    assert found.tolist() == numbers


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=30))
def test_the_best_code_takes_the_fewest_bits(numbers: list[int]) -> None:
    def bits(code: Code) -> int:
        return sum(len(part) for number in numbers for part in written_out(number, code))

    best = golomb.best_code(np.array(numbers))
    every = [Code(order, kind) for order in range(17) for kind in (False, True)]
    assert bits(best) == min(map(bits, every))


def test_geometric_numbers_take_little_more_than_their_entropy() -> None:
    rng = np.random.default_rng(0)
    for mean in (0.3, 2, 20, 200):
        p = 1 / (1 + mean)
        numbers = rng.geometric(p, 20_000) - 1
        code = golomb.best_code(numbers)
        size = sum(map(len, golomb.encode([numbers], [code]))) * 8 / len(numbers)
        entropy = -(np.log2(p) * p + np.log2(1 - p) * (1 - p)) / p
        assert size < entropy + 0.35


def test_a_code_is_a_byte() -> None:
    for code in (Code(0, False), Code(16, True), Code(3, True)):
        assert Code.from_byte(code.to_byte()) == code
    with pytest.raises(DamagedCacheError, match="order 17"):
        Code.from_byte(17)


def test_bytes_that_do_not_fit_the_lengths_are_damage() -> None:
    codes, stream = [Code(3, False)], np.arange(50)
    prefixes, mantissas = encoded([stream], codes)
    with pytest.raises(DamagedCacheError, match="50 packed numbers, expected 49"):
        golomb.decode(prefixes, mantissas, codes, [49])
    with pytest.raises(DamagedCacheError, match="10 bytes of packed numbers, expected 19"):
        golomb.decode(prefixes, mantissas[:10], codes, [50])
