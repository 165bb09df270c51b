"""Pauses between attempts: short at first, doubled with every failure in a row, capped.

A storage that answers 503, or a cluster that has just lost a node, needs time more than it
needs another attempt at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kdcache.errors import StorageError, StorageFullError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, LONGEST = 1.0, 60.0
"""Seconds of the shortest and the longest pause."""

Result = TypeVar("Result")


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


def persist(
    action: Callable[[], Result],
    patience: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """The result of ``action``, which is repeated while the storage fails.

    What was computed for it is not computed again: that is why actors repeat a commit here,
    before a unit is ever handed back.

    Args:
        action: may be repeated, as commits may.
        patience: seconds after which the storage's error is passed on.
        clock, sleep: of time.

    Raises:
        StorageError: the last one, once patience is at its end; a full storage's at once.
    """
    started, failures = clock(), 0
    while True:
        try:
            return action()
        except StorageFullError:
            raise  # which time does not mend
        except StorageError:
            failures += 1
            left = started + patience - clock()
            if left <= 0:
                raise
            sleep(min(left, pause_after(failures)))
