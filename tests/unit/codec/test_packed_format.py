"""Column ``packed`` read by the letter of docs/format.md, bit by bit, without the codec."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings

from kdcache.codec import PosteriorRecord, make_codec
from kdcache.testing.records import ragged_posteriors

if TYPE_CHECKING:
    from collections.abc import Iterator


def scale(named: dict[str, Any], code: int) -> float:
    if code == 0:
        return 0.0
    if named["name"] == "count":
        return float(code / named["samples"])
    step = 2.0 ** -named["bits"]
    return float(((code - 32) * step) ** 2 if code > 32 else (2.0 ** (code - 33) * step) ** 2)


def bits_of(data: bytes) -> Iterator[int]:
    return (byte >> (7 - i) & 1 for byte in data for i in range(8))


def read_streams(packed: bytes) -> tuple[list[list[int]], int, int]:
    head = struct.unpack("<4I2H6H6B", packed[:38])
    rows, others, leads, prefix_bytes, usual, median = head[:6]
    lowest, codes = head[6:12], head[12:]
    prefixes, mantissas = (
        bits_of(packed[38 : 38 + prefix_bytes]),
        bits_of(packed[38 + prefix_bytes :]),
    )
    streams = []
    for length, low, code in zip(
        (rows, rows, rows, others, others, leads), lowest, codes, strict=True
    ):
        if code == 255:
            streams.append([low] * length)
            continue
        k, numbers = code & 127, []
        prefix = []
        for _ in range(length):
            q = 0
            while not next(prefixes):
                q += 1
            prefix.append(q)
        for q in prefix:
            width = k + q if code & 128 else k
            base = ((2**q - 1) if code & 128 else q) << k
            mantissa = 0
            for _ in range(width):
                mantissa = mantissa << 1 | next(mantissas)
            numbers.append(base + mantissa + low)
        streams.append(numbers)
    return streams, usual, median


def read_rows(packed: bytes, named: dict[str, Any]) -> Iterator[tuple[dict[int, float], float]]:
    """Probabilities by class, and of the rest, row by row."""
    (count, first, away, gap, code, lead), usual, median = read_streams(packed)
    gaps, codes, leads = iter(gap), iter(code), iter(lead)
    for more, symbol, distance in zip(count, first, away, strict=True):
        rest = scale(named, median + (-(distance + 1) // 2 if distance % 2 else distance // 2))
        row, last = {}, -1
        for _ in range(more):
            last += next(gaps) + 1
            row[last] = scale(named, next(codes))
        beside = sum(row.values()) + rest
        if symbol != 65_536:
            own = 1 - beside if beside <= 0.5 else scale(named, next(leads))
            row[usual if symbol == 0 else symbol - 1] = own
        total = sum(row.values()) + rest
        yield {i: p / total for i, p in row.items()}, rest / total


@pytest.mark.parametrize(
    "named",
    [{"name": "root", "bits": 3}, {"name": "root", "bits": 8}, {"name": "count", "samples": 9}],
    ids=str,
)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(record=ragged_posteriors())
def test_the_document_tells_how_to_read_it(named: dict[str, Any], record: PosteriorRecord) -> None:
    codec = make_codec("posterior", named)
    columns = codec.encode(record)
    decoded = codec.decode(columns)
    assert isinstance(decoded, PosteriorRecord)
    found = list(read_rows(columns["packed"].tobytes(), named))
    assert len(found) == len(decoded.ids_NK)
    for (row, rest), ids, logp in zip(found, decoded.ids_NK, decoded.logp_NC, strict=True):
        assert set(row) == set(ids[ids >= 0].tolist())
        assert [row.get(i, 0.0) for i in ids.tolist()] == pytest.approx(np.exp(logp[:-1]), rel=1e-4)
        assert rest == pytest.approx(np.exp(logp[-1]), rel=1e-4)
