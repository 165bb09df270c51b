"""Reading ahead in a thread, with bounded memory, or not at all.

A thread, not a process: the work is mapped reads and numpy, which release the interpreter's
lock, and a batch need not be copied between processes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ItemT = TypeVar("ItemT")


@dataclass(slots=True)
class _Failure:
    error: BaseException


def read_ahead(items: Iterable[ItemT], depth: int) -> Prefetcher[ItemT] | InTurn[ItemT]:
    """``items``, up to ``depth`` of them made ahead by a thread; of depth 0, without one."""
    return Prefetcher(items, depth) if depth else InTurn(items)


class InTurn(Generic[ItemT]):
    """Iterates ``items``, each made when it is asked for.

    Attributes:
        waited: seconds that the consumer has spent waiting for items.
    """

    def __init__(self, items: Iterable[ItemT]) -> None:
        self.waited = 0.0
        self._items = items

    def __iter__(self) -> Iterator[ItemT]:
        begun = time.perf_counter()
        for item in self._items:
            self.waited += time.perf_counter() - begun
            yield item
            begun = time.perf_counter()


class Prefetcher(Generic[ItemT]):
    """Iterates ``items`` while a thread makes up to ``depth`` of them ahead.

    An exception in the thread is raised where the item would have been. Leaving the loop
    early and calling :meth:`close` ends the thread.

    Attributes:
        waited: seconds that the consumer has spent waiting for items.
    """

    def __init__(self, items: Iterable[ItemT], depth: int) -> None:
        self.waited = 0.0
        self._items = items
        self._queue: queue.Queue[ItemT | _Failure | None] = queue.Queue(max(depth, 1))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="kdcache-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[ItemT]:
        try:
            while True:
                begun = time.perf_counter()
                item = self._queue.get()
                self.waited += time.perf_counter() - begun
                if item is None:
                    return
                if isinstance(item, _Failure):
                    raise item.error
                yield item
        finally:
            self.close()

    def close(self) -> None:
        """End the thread; what it made ahead is dropped."""
        self._stop.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._thread.join()

    def _fill(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(None)
        except BaseException as error:  # handed to the consumer, whatever it is
            self._put(_Failure(error))
        finally:
            # What a generator holds, such as threads of its own, ends with this one.
            if isinstance(self._items, Generator):
                self._items.close()

    def _put(self, item: ItemT | _Failure | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
