"""Column ``packed`` of lattices read by the letter of docs/format.md, number by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings

from kdcache.codec import LatticeRecord, make_codec
from kdcache.codec.starts import unpack_starts
from kdcache.testing.records import random_band, random_lattice, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NO_NEIGHBOUR = None


class Bits:
    """Bits from the most significant of a byte to the least."""

    def __init__(self, data: bytes) -> None:
        self.bits: Iterator[int] = (byte >> (7 - i) & 1 for byte in data for i in range(8))

    def zeros(self) -> int:
        count = 0
        while not next(self.bits):
            count += 1
        return count

    def number(self, width: int) -> int:
        value = 0
        for _ in range(width):
            value = value << 1 | next(self.bits)
        return value


class Document:
    """The bytes, read in the order of the document: a stream when its length is known."""

    def __init__(self, packed: bytes) -> None:
        self.data = iter(packed)
        self.sizes = [self.count() for _ in range(4)]
        self.floors = [next(self.data) for _ in range(3)]
        self.heads = [self.head() for _ in range(15)]
        length, body = self.count(), bytes(self.data)
        self.prefixes, self.mantissas = Bits(body[:length]), Bits(body[length:])

    def count(self) -> int:
        value, shift = 0, 0
        while True:
            byte = next(self.data)
            value += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def head(self) -> tuple[int, int, int]:
        code = next(self.data)
        if code == 255 or not code & 64:
            return code, 255, 0
        return code, next(self.data), self.count()

    def golomb(self, code: int, length: int) -> list[int]:
        if code == 255:
            return [0] * length
        k, numbers = code & 63, []
        for q in [self.prefixes.zeros() for _ in range(length)]:
            width = k + q if code & 128 else k
            base = ((2**q - 1) if code & 128 else q) << k
            numbers.append(base + self.mantissas.number(width))
        return numbers

    def stream(self, index: int, length: int) -> Iterator[int]:
        code, others, count = self.heads[index]
        if code == 255 or not code & 64:
            return iter(self.golomb(code, length))
        runs, values = self.golomb(code, count), self.golomb(others, count)
        found = [
            x for run, value in zip(runs, values, strict=True) for x in [0] * run + [value + 1]
        ]
        return iter(found + [0] * (length - len(found)))


def read(columns: Mapping[str, np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (T, S, C) and ids (T, S, K)."""
    document = Document(columns["packed"].tobytes())
    frames, width, kept, flips = document.sizes
    classes = 3 + kept
    starts = [0] * frames
    if "starts" in columns:
        starts = unpack_starts(columns["starts"], frames).tolist()
    halves = [[(t, s) for t in range(half, frames, 2) for s in range(width)] for half in (0, 1)]

    def beside(t: int, s: int) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for other in (t - 1, t + 1):
            column = starts[t] + s - starts[other] if 0 <= other < frames else -1
            found.append((other, column) if 0 <= column < width else NO_NEIGHBOUR)
        return found

    there = {
        (t, s, c): not (c == 1 and starts[t] + s == starts[-1] + width - 1)
        for t in range(frames)
        for s in range(width)
        for c in range(classes)
    }
    places, at = list(there), -1
    for gap in document.stream(0, flips):
        at += gap + 1
        there[places[at]] = not there[places[at]]

    lead: dict[tuple[int, int] | None, int] = {}

    def contexts_of_leads(nodes: list[tuple[int, int]], odd: bool) -> list[int]:
        if not odd:
            return [1] * len(nodes)
        pairs = [[lead.get(node) for node in beside(*node)] for node in nodes]
        return [3 if a is not None and a == b else 2 for a, b in pairs]

    for odd in (0, 1):
        nodes = halves[odd]
        contexts = contexts_of_leads(nodes, bool(odd))
        streams = {c: document.stream(c, contexts.count(c)) for c in sorted(set(contexts))}
        found = {}
        for node, context in zip(nodes, contexts, strict=True):
            near = [lead[x] for x in beside(*node) if x is not None] if odd else []
            order = list(dict.fromkeys([*(near or [0]), *range(classes)]))
            found[node] = order[next(streams[context])]
        lead |= found

    codes = dict.fromkeys(there, 0) | {(*x, lead[x]): n for x in [*halves[0], *halves[1]]}
    z = max(1, n // 16)
    for odd in (0, 1):
        asked, contexts = [], []
        for node in halves[odd]:
            near = [x for x in beside(*node) if x is not None]
            for c in range(classes):
                if c == lead[node] or not there[*node, c]:
                    continue
                asked.append((*node, c))
                if not odd:
                    contexts.append(4 + sum(lead[x] == c for x in near))
                    continue
                size = sum(codes[*x, c] for x in near) * (3 - len(near)) if near else -1
                contexts.append(7 + sum(size >= z * bound for bound in (0, 1, 2, 4, 8)))
        streams = {c: document.stream(c, contexts.count(c)) for c in sorted(set(contexts))}
        for place, context in zip(asked, contexts, strict=True):
            codes[place] = next(streams[context])

    ids = np.zeros((frames, width, kept), np.int64)
    even = document.stream(13, len(halves[0]) * kept)
    for node in halves[0]:
        ids[node] = [next(even) - 1 for _ in range(kept)]
    uneven = document.stream(14, len(halves[1]) * kept)
    for node in halves[1]:
        near = [x for x in beside(*node) if x is not None]
        listed = ids[near[0]].tolist() if near else [-1] * kept
        for i in range(kept):
            place = next(uneven)
            order = [i, *(j for j in range(kept) if j != i)]
            ids[node][i] = listed[order[place]] if place < kept else place - kept - 1

    p = np.zeros((frames, width, classes))
    for (t, s, c), code in codes.items():
        if there[t, s, c] and c != lead[t, s]:
            little = 2.0 ** (-document.floors[min(c, 2)] / 8) / (4 * n * n)
            p[t, s, c] = (code / n) ** 2 if code else little
    for (t, s), c in lead.items():  # type: ignore[misc]
        p[t, s, c] = max(1 - p[t, s].sum(), p[t, s].max())
    return p / p.sum(-1, keepdims=True), ids


def check(record: LatticeRecord, steps: int) -> None:
    codec = make_codec("lattice", {"name": "root", "steps": steps})
    columns = codec.encode(record)
    decoded = codec.decode(columns)
    assert isinstance(decoded, LatticeRecord)
    p, ids = read(columns, steps)
    assert np.allclose(p, np.exp(decoded.logp_TSC.astype(np.float64)), rtol=1e-5, atol=0)
    assert np.array_equal(ids, decoded.ids_TSK)


@pytest.mark.parametrize("steps", [2, 16, 50])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(record=records("lattice"))
def test_the_document_tells_how_to_read_it(steps: int, record: LatticeRecord) -> None:
    check(record, steps)


@pytest.mark.parametrize("seed", range(3))
def test_longer_ones_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(random_lattice(rng, frames=40, labels=7, kept=3, vocab=8), 16)
    check(random_band(rng, kept=3, vocab=5), 70)


def test_bytes_of_today_stay_readable() -> None:
    packed = bytes.fromhex(
        "03020101ffffff030000ff0101ffffffffff020282800876d424ea5a5502e2b7c14b863b80"
    )
    columns = {
        "packed": np.frombuffer(packed, np.uint8),
        "starts": np.frombuffer(b"\x20", np.uint8),
    }
    decoded = make_codec("lattice", {"name": "root", "steps": 16}).decode(columns)
    assert isinstance(decoded, LatticeRecord)
    squares = [
        [[227, 16, 9, 4], [125, 81, 25, 25]],
        [[49, 181, 1, 25], [156, 0, 64, 36]],
        [[4, 250, 1, 1], [248, 0, 4, 4]],
    ]
    assert np.allclose(np.exp(decoded.logp_TSC) * 256, squares, atol=1e-4)
    assert decoded.ids_TSK.tolist() == [[[7], [300]], [[7], [9]], [[9], [2]]]
    assert decoded.starts_T is not None
    assert decoded.starts_T.tolist() == [0, 0, 1]
