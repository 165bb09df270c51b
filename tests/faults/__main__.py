"""``python -m tests.faults --runs 100 --seed 1``: kills at random moments, and nothing is lost.

Each run of the same small extraction, on two Ray nodes of this machine, is disturbed by one
kill −9 of its driver, of an actor, or of the second node's raylet. A killed driver's command is
given again; of the other two the run must take care itself. Meanwhile a reader checks all that
is visible. In the end the content must be that of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import ROOT  # which sets the environment that children inherit
from tests.faults.campaign import Campaign, Outcome
from tests.faults.cluster import TwoNodes


def main() -> int:
    """0 where every run ended in the same content, 1 otherwise."""
    asked = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    asked.add_argument("--runs", type=int, default=100)
    asked.add_argument("--seed", type=int, default=1, help="of victims and moments")
    asked.add_argument("--first", type=int, default=0, help="number of the first run")
    given = asked.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="faults-", dir=ROOT / "build"))
    print(f"{given.runs} runs, seed {given.seed}, in {place}", flush=True)
    began = time.monotonic()
    with TwoNodes() as nodes:
        outcomes = _all(Campaign(place, nodes), given.runs, given.seed, given.first)
    right = [outcome for outcome in outcomes if not outcome.wrong]
    victims = Counter(outcome.fault.victim for outcome in outcomes if outcome.struck)
    told = ", ".join(f"{count} {victim}" for victim, count in sorted(victims.items()))
    print(
        f"{len(right)} of {len(outcomes)} runs ended in the undisturbed run's content digest; "
        f"killed: {told}; {sum(o.rounds for o in outcomes)} readings found "
        f"{sum(len(o.wrong) for o in outcomes)} things wrong; {time.monotonic() - began:.0f} s"
    )
    if len(right) < len(outcomes):
        return 1
    shutil.rmtree(place)
    return 0


def _all(campaign: Campaign, runs: int, seed: int, first: int) -> list[Outcome]:
    goal = campaign.undisturbed()
    print(
        f"undisturbed: {goal.digest[:16]}…, {goal.start_seconds:.1f} s to the first commit, "
        f"{goal.unit_seconds * 1000:.0f} ms a unit",
        flush=True,
    )
    outcomes = []
    for run in range(first, first + runs):
        outcomes.append(campaign.disturbed(goal, seed, run))
        print(f"{run + 1}: {outcomes[-1]}", flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
