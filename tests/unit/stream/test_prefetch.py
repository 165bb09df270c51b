"""Reading ahead: order, errors, an early end, bounded memory."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from kdcache.stream.prefetch import Prefetcher, read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_gives_all_items_in_order() -> None:
    assert list(Prefetcher(range(100), depth=3)) == list(range(100))


def test_an_error_comes_where_its_item_would_have_been() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = iter(Prefetcher(items(), depth=2))
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_never_more_than_depth_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    ahead = iter(Prefetcher(items(), depth=3))
    next(ahead)
    time.sleep(0.3)
    assert len(made) <= 1 + 3 + 1  # taken, queued, and one in the thread's hand
    ahead.close()  # type: ignore[attr-defined]


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    ahead = iter(Prefetcher(iter(range(10**9)), depth=2))
    next(ahead)
    ahead.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_counts_the_seconds_spent_waiting() -> None:
    def slow() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.05)
            yield i

    ahead = Prefetcher(slow(), depth=1)
    assert list(ahead) == [0, 1, 2]
    assert ahead.waited > 0.05


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_any_depth_gives_the_same(depth: int) -> None:
    assert list(read_ahead(iter(range(20)), depth)) == list(range(20))


def test_of_depth_0_each_is_made_when_asked_for_in_the_thread_that_asks() -> None:
    made: list[tuple[int, threading.Thread]] = []

    def items() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.02)
            made.append((i, threading.current_thread()))
            yield i

    source = read_ahead(items(), 0)
    ahead = iter(source)
    for i in range(3):
        assert next(ahead) == i
        assert made[-1] == (i, threading.current_thread())
        assert len(made) == i + 1
    assert source.waited >= 0.06
