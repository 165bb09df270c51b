"""Trying again: reads of a service that fails now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import xxhash

from kdcache.errors import KdcacheError

if TYPE_CHECKING:
    from collections.abc import Callable

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and for how long, a read is tried again.

    Attributes:
        tries: of one read, the first among them.
        first: seconds of the first pause; each later one is twice as long.
        longest: seconds of a pause, at most.
        within: seconds after the first try in which another one is begun.
    """

    tries: int = 5
    first: float = 0.1
    longest: float = 10.0
    within: float = 60.0

    def pause(self, failed: int, name: str) -> float:
        """Seconds to wait after so many failures: half of it depends on ``name``.

        So readers that a service has refused all at once do not come back all at once.
        """
        whole = min(self.first * 2.0 ** (failed - 1), self.longest)
        spread = xxhash.xxh3_64_intdigest(f"{failed}\x1f{name}".encode()) / 2**64
        return whole * (1 + spread) / 2


def read_patiently(
    work: Callable[[], ResultT],
    name: str,
    patience: Patience,
    *,
    again: Callable[[KdcacheError], bool],
    failed: Callable[[], None] = lambda: None,
) -> ResultT:
    """What ``work`` returns, tried again after errors that may pass.

    Args:
        work: a read, which may be repeated.
        name: of what is read.
        patience: how long to go on.
        again: whether to try again after this error.
        failed: called for each failure after which it is tried again.

    Raises:
        KdcacheError: that of the last try.
    """
    begun, tried = time.monotonic(), 0
    while True:
        try:
            return work()
        except KdcacheError as error:
            tried += 1
            late = time.monotonic() - begun > patience.within
            if tried >= patience.tries or late or not again(error):
                raise
        failed()
        time.sleep(patience.pause(tried, name))
