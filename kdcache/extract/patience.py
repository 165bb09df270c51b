"""Pauses between attempts: short at first, doubled with every failure in a row, capped.

A storage that answers 503, or a cluster that has just lost a node, needs time more than it
needs another attempt at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kdcache.errors import StorageError, StorageFullError
from kdcache.store.retry import Patience, read_patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.errors import KdcacheError

FIRST, LONGEST = 1.0, 60.0
"""Seconds of the shortest and the longest pause."""

_TRIES = 1000
"""More than fit into any patience."""

ResultT = TypeVar("ResultT")


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4, … 60; none after none."""
    if failures < 1:
        return 0.0
    return min(LONGEST, FIRST * 2.0 ** min(failures - 1, 16))


@dataclass(slots=True)
class Rest:
    """A pause that grows with failures in a row and ends with a success.

    Attributes:
        clock: seconds, monotonic.
        free: failures in a row that call for no pause yet.
        failures: in a row, those during a rest left out.
        until: when the pause is over.
    """

    clock: Callable[[], float]
    free: int = 0
    failures: int = 0
    until: float = 0.0

    def failed(self) -> None:
        """Once more: rest longer. During a rest it is the same trouble, which many share: a lost
        node takes all its actors with it."""
        if self.failures and not self.over:
            return
        self.failures += 1
        self.until = self.clock() + pause_after(self.failures - self.free)

    def succeeded(self) -> None:
        """All is well: no more rest."""
        self.failures, self.until = 0, 0.0

    @property
    def over(self) -> bool:
        """Whether it is time for another attempt."""
        return self.failures == 0 or self.clock() >= self.until


def persist(action: Callable[[], ResultT], name: str, seconds: float) -> ResultT:
    """The result of ``action``, which is repeated while the storage fails.

    What was computed for it is not computed again: that is why actors repeat a commit here,
    before a unit is ever handed back.

    Args:
        action: may be repeated, as commits may.
        name: of what it is about; pauses depend on it a little, so that actors whom a storage
            refused at once do not all come back at once.
        seconds: after which the storage's error is passed on.

    Raises:
        StorageError: the last one, once patience is at its end; a full storage's at once.
    """
    patience = Patience(tries=_TRIES, first=FIRST, longest=LONGEST, within=seconds)
    return read_patiently(action, name, patience, again=_may_pass)


def _may_pass(error: KdcacheError) -> bool:
    """Whether time may mend it; time makes no room."""
    return isinstance(error, StorageError) and not isinstance(error, StorageFullError)
