"""Which unit is next, and what becomes of a unit whose actor died.

The queue lives in the driver's memory only. It is made anew from the cache at every start,
so nothing of it need survive.

A unit that has cost ``max_attempts`` actors their lives is split in two until the utterance
that is to blame stands alone; only that one is given up. Parts get a single attempt, since
another death there says no more than that the search must go on; the last utterance gets
all attempts again, because it is about to be given up for good. An actor that was lost with
its node counts for nothing the first ``EXCUSES`` times.

Planned units are taken from the plan one by one; what came back waits behind them, but for
``MOST_BACK`` units at most, so that of any plan hardly more is in memory than what actors have.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.extract.plan import Unit, split_unit

if TYPE_CHECKING:
    from collections.abc import Collection

EXCUSES = 5
"""Nodes that may be lost under a unit before it is suspected: an utterance can fill a node's
memory, and of an actor that crashed Ray sometimes knows no more than that it is out of reach."""

MOST_BACK = 64
"""Units that came back and wait; where there are more, they go before planned ones."""


@dataclass(slots=True)
class Task:
    """A unit on its way.

    Attributes:
        unit: the work.
        is_part: whether it was split off a larger unit.
        deaths: actors that were lost while they had it.
        refusals: how often the storage did not take it.
        excuses: how often a lost node was taken to be the reason.
        company: how often an actor was lost that had another unit besides.
    """

    unit: Unit
    is_part: bool = False
    deaths: int = 0
    refusals: int = 0
    excuses: int = 0
    company: int = 0

    @property
    def suspect(self) -> bool:
        """Whether it must have an actor to itself, so that another death is its own."""
        return self.is_part or self.deaths + self.excuses + self.company > 0


class WorkQueue:
    """Units that nobody has at the moment.

    Args:
        units: the work, in the order in which it is handed out; gone through once.
        max_attempts: see the module's docstring.
    """

    def __init__(self, units: Collection[Unit], max_attempts: int) -> None:
        self._planned, self._left = iter(units), len(units)
        self._back = deque[Task]()
        self._max_attempts = max_attempts

    def __len__(self) -> int:
        return self._left + len(self._back)

    def take(self) -> Task | None:
        """The next task, or ``None``."""
        if self._planned_is_next:
            self._left -= 1
            return Task(next(self._planned))
        return self._back.popleft() if self._back else None

    def take_second(self) -> Task | None:
        """The next task, unless it must have an actor to itself."""
        if self._planned_is_next or (self._back and not self._back[0].suspect):
            return self.take()
        return None

    def lost_in_company(self, task: Task) -> None:
        """The actor that had ``task`` and another is gone; which of them is to blame will show
        when each has an actor to itself."""
        task.company += 1
        self._back.append(task)

    def lost_with_node(self, task: Task) -> bool:
        """The node is gone, and with it the actor that had ``task``: try again, for which the
        task is not to blame unless it happens again and again.

        Returns:
            See :meth:`lost`.
        """
        task.excuses += 1
        if task.excuses > EXCUSES:
            return self.lost(task)
        self._back.append(task)
        return False

    def refused(self, task: Task) -> bool:
        """The storage failed under ``task``: try again later.

        Returns:
            Whether it has failed too often for that.
        """
        task.refusals += 1
        if task.refusals >= self._max_attempts:
            return True
        self._back.append(task)
        return False

    def lost(self, task: Task) -> bool:
        """The actor that had ``task`` is gone: try again, split, or give it up.

        Returns:
            Whether the task is given up; its unit then holds exactly one utterance.
        """
        task.deaths += 1
        if task.deaths < self._attempts(task):
            self._back.append(task)
            return False
        if len(task.unit) == 1:
            return True
        self._back.extend(Task(part, is_part=True) for part in split_unit(task.unit))
        return False

    @property
    def _planned_is_next(self) -> bool:
        return self._left > 0 and len(self._back) < MOST_BACK

    def _attempts(self, task: Task) -> int:
        return 1 if task.is_part and len(task.unit) > 1 else self._max_attempts
