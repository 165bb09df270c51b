"""What is done to a run, and when: drawn from a seed."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cluster import TwoNodes
    from tests.faults.drivers import Driver

Victim = Literal["driver", "actor", "raylet"]
VICTIMS: tuple[Victim, ...] = get_args(Victim)

EARLY = 0.25
"""Share of drivers that are killed at a random moment of their start-up."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One kill −9.

    Attributes:
        victim: who is killed.
        commits: it is waited for so many; below 0 for none, nor for an actor.
        delay: seconds after that.
        choice: which actor, as a share of how many there are.
    """

    victim: Victim
    commits: int
    delay: float
    choice: float

    def __str__(self) -> str:
        after = "the start" if self.commits < 0 else f"commit {self.commits}"
        return f"{self.victim} killed {self.delay:.2f} s after {after}"


def draw(seed: int, run: int, units: int, unit_seconds: float, start_seconds: float) -> Fault:
    """The fault of one run: victims in turn, moments at random.

    Args:
        seed, run: of the same, the same fault.
        units: commits of a whole run.
        unit_seconds: that lie between two commits.
        start_seconds: that lie before the first.
    """
    rng = random.Random(f"{seed}/{run}")
    victim = VICTIMS[run % len(VICTIMS)]
    if victim == "driver" and rng.random() < EARLY:
        return Fault(victim, -1, rng.uniform(0.0, start_seconds), 0.0)
    delay = rng.uniform(0.0, 2 * unit_seconds)
    return Fault(victim, rng.randrange(units - 1), delay, rng.random())


def strike(
    fault: Fault, driver: Driver, nodes: TwoNodes, commits: Callable[[], int], patience: float
) -> bool:
    """Wait for the moment, and kill; whether there was somebody left to kill.

    Raises:
        TimeoutError: the moment did not come.
    """
    deadline = time.monotonic() + patience
    while fault.commits >= 0 and driver.running:
        if commits() >= fault.commits and nodes.actors():
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"{commits()} commits after {patience:.0f} s: {driver.errors()}")
        time.sleep(0.002)
    time.sleep(fault.delay)
    if not driver.running:
        return False
    return _kill(fault, driver, nodes)


def _kill(fault: Fault, driver: Driver, nodes: TwoNodes) -> bool:
    if fault.victim == "driver":
        driver.kill()
    elif fault.victim == "raylet":
        nodes.kill_second()
    else:
        return nodes.kill_actor(fault.choice)
    return True
