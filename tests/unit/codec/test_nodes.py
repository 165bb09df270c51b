"""Neighbours, ranks and places: each against what its docstring says, one node at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.codec.contexts import Writer
from kdcache.codec.node_ids import _ids, _places
from kdcache.codec.nodes import CONTEXTS, SIZES, _rank, _sizes, _unrank, visit
from kdcache.codec.windows import Windows
from kdcache.errors import DamagedCacheError

STEPS = st.lists(st.integers(0, 3), max_size=8)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(STEPS, st.integers(1, 5))
def test_neighbours_are_the_same_column_a_frame_away(steps: list[int], width: int) -> None:
    starts_T = np.cumsum([0, *steps])
    nodes = [(t, start + s) for t, start in enumerate(starts_T) for s in range(width)]
    index = {node: i for i, node in enumerate(nodes)}
    windows = Windows.of(starts_T, width)
    assert windows.before_N.tolist() == [index.get((t - 1, u), len(nodes)) for t, u in nodes]
    assert windows.after_N.tolist() == [index.get((t + 1, u), len(nodes)) for t, u in nodes]
    assert [nodes[i][0] % 2 for i in windows.even] == [0] * len(windows.even)
    assert sorted([*windows.even, *windows.odd]) == list(range(len(nodes)))


@pytest.mark.parametrize("width", [0, 3])
def test_no_frames_have_no_neighbours(width: int) -> None:
    assert [len(part) for part in Windows.of(np.zeros(0, np.int32), width)] == [0] * 5


@given(st.lists(st.tuples(STEPS, st.integers(1, 4)), min_size=1, max_size=4))
def test_lattices_that_follow_one_another_do_not_touch(
    lattices: list[tuple[list[int], int]],
) -> None:
    parts = [Windows.of(np.cumsum([0, *steps]), width) for steps, width in lattices]
    joined = Windows.joined(parts, 7)
    nodes = [len(part.before_N) for part in parts]
    for i, part in enumerate(parts):
        start, end = sum(nodes[:i]), sum(nodes[: i + 1])
        for beside in ("before_N", "after_N"):
            own = [
                sum(nodes) if n == nodes[i] else n + start for n in getattr(part, beside).tolist()
            ]
            assert getattr(joined, beside)[start:end].tolist() == own
        assert joined.base_N[start:end].tolist() == [7 * i] * nodes[i]
    assert joined.before_N.size == sum(nodes)
    frame = np.concatenate(
        [np.repeat(np.arange(len(steps) + 1), width) for steps, width in lattices]
    )
    assert joined.even.tolist() == np.flatnonzero(frame % 2 == 0).tolist()
    assert joined.odd.tolist() == np.flatnonzero(frame % 2).tolist()


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_ranks_count_the_neighbours_leads_first(classes: int) -> None:
    lead, first, second = np.indices((classes,) * 3).reshape(3, -1)
    rank = _rank(lead, first, second)
    for one, a, b, found in zip(lead, first, second, rank, strict=True):
        assert found == list(dict.fromkeys([a, b, *range(classes)])).index(one)
    assert np.array_equal(_unrank(rank, first, second), lead)


@pytest.mark.parametrize("steps", [2, 16, 31, 32, 100])
def test_sizes_are_of_both_neighbours_or_twice_the_one(steps: int) -> None:
    before, after = np.indices((steps + 2, steps + 2)).reshape(2, -1) - 1
    found = _sizes(before[:, None], after[:, None], steps)[:, 0]
    for a, b, context in zip(before.tolist(), after.tolist(), found.tolist(), strict=True):
        there = [x for x in (a, b) if x >= 0]
        size = sum(there) * 2 // len(there) if there else -1
        assert context == 7 + sum(size >= max(1, steps // 16) * bound for bound in SIZES)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 5))
def test_places_come_back(data: st.DataObject, kept: int) -> None:
    row = st.lists(st.integers(-1, 6), min_size=kept, max_size=kept)
    rows = st.lists(row, min_size=3, max_size=3).map(np.array)
    ids, near = data.draw(rows), data.draw(rows)
    places = _places(ids, near)
    assert np.array_equal(_ids(places, near), ids)
    assert (places[ids == near] == 0).all()
    unknown = ~(ids[:, :, None] == near[:, None, :]).any(-1)
    assert np.array_equal(places >= kept, unknown)


class Given:
    """A coder that says the same number always."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, context_I: np.ndarray, number_I: np.ndarray) -> np.ndarray:
        return np.full(len(context_I), self.number)


def empty(frames: int, width: int) -> tuple[Windows, np.ndarray, np.ndarray, np.ndarray]:
    nodes = frames * width
    codes_NC = np.zeros((nodes + 1, 3), np.int64)
    codes_NC[-1] = -1
    there_NC = np.ones((nodes, 3), bool)
    return Windows.of(np.zeros(frames, int), width), np.full(nodes + 1, -1), codes_NC, there_NC


@pytest.mark.parametrize(
    ("number", "missing", "message"),
    [
        (3, [], "a lead of rank 3 among 3 classes"),
        (2, [], "a code of 2, expected at most 1"),
        (0, [0], "likeliest class has no probability"),
    ],
)
def test_numbers_of_no_lattice_are_damage(number: int, missing: list[int], message: str) -> None:
    windows, lead_N, codes_NC, there_NC = empty(4, 2)
    there_NC[:, missing] = False
    with pytest.raises(DamagedCacheError, match=message):
        visit(Given(number), windows, lead_N, codes_NC, there_NC, 1)


def test_no_context_comes_back_in_a_later_call() -> None:
    """Else its numbers would be lost: a writer keeps the last call's."""

    class Watch(Writer):
        seen: list[set[int]]

        def __call__(self, context_I: np.ndarray, number_I: np.ndarray) -> np.ndarray:
            self.seen.append(set(context_I.tolist()))
            return super().__call__(context_I, number_I)

    rng = np.random.default_rng(0)
    starts_T = np.cumsum(np.append(0, rng.integers(0, 4, 60)))
    windows = Windows.of(starts_T, 4)
    nodes = len(windows.before_N)
    watch = Watch(CONTEXTS)
    watch.seen = []
    codes_NC = np.append(rng.integers(0, 9, (nodes, 3)), [[-1] * 3], axis=0)
    lead_N = np.append(rng.integers(0, 3, nodes), -1)
    visit(watch, windows, lead_N, codes_NC, np.ones((nodes, 3), bool), 16)
    everything = [context for call in watch.seen for context in call]
    assert sorted(everything) == list(range(1, CONTEXTS))
