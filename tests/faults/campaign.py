"""Runs of one extraction, each disturbed once, resumed, and compared with an undisturbed one."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.store import open_cache, verify
from tests.faults.drivers import start
from tests.faults.faults import draw, strike
from tests.faults.reader import Reader
from tests.unit.extract.extract_fakes import ADAPTER, save_corpus, save_fake_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.cluster import TwoNodes
    from tests.faults.drivers import Driver
    from tests.faults.faults import Fault

LENGTHS = [4000 + 100 * i for i in range(40)]
UNITS = 20
SLEEP = 0.05
PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What every run must end in.

    Attributes:
        digest: of its content.
        checksums: of each utterance's content, by id.
        start_seconds: until the first commit.
        unit_seconds: between two commits.
    """

    digest: str
    checksums: dict[str, str]
    start_seconds: float
    unit_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a disturbed run.

    Attributes:
        fault: what was done to it.
        struck: whether anybody was there to be killed.
        commits: when it happened.
        resumed: how often the command was given again.
        rounds: of the reader.
        wrong: all that is not as it should be; empty where the run is right.
        seconds: that it took.
    """

    fault: Fault
    struck: bool
    commits: int
    resumed: int
    rounds: int
    wrong: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        struck = "" if self.struck else " (which was over by then)"
        verdict = "; ".join(self.wrong) or "same content"
        return (
            f"{self.fault}{struck}, {self.commits} of {UNITS} units committed, resumed "
            f"{self.resumed} ×, read {self.rounds} ×, {self.seconds:.1f} s: {verdict}"
        )


class Campaign:
    """Runs on one cluster.

    Args:
        place: where their files are kept.
        nodes: the cluster, which all of them share.
    """

    def __init__(self, place: Path, nodes: TwoNodes) -> None:
        self._place, self._nodes = place, nodes
        save_corpus(place / "wav", LENGTHS)
        save_fake_teacher(place / "teacher", sleep=SLEEP)

    def undisturbed(self) -> Undisturbed:
        """A run that nobody disturbs."""
        cache, began = self._place / "undisturbed", time.monotonic()
        driver = start(self._config(cache), self._place / "undisturbed.json")
        while driver.running and not commits_of(cache):
            time.sleep(0.005)
        first = time.monotonic()
        if driver.end(PATIENCE):
            raise RuntimeError(f"the undisturbed run failed: {driver.errors()}")
        rows = open_cache(cache).catalogue.select(["id", "checksum"]).to_pylist()
        return Undisturbed(
            driver.report()["content_digest"],
            {row["id"]: row["checksum"] for row in rows},
            first - began,
            (time.monotonic() - first) / UNITS,
        )

    def disturbed(self, goal: Undisturbed, seed: int, run: int) -> Outcome:
        """A run with one fault, resumed until it is done."""
        began, cache = time.monotonic(), self._place / f"run-{run}"
        fault = draw(seed, run, UNITS, goal.unit_seconds, goal.start_seconds)
        self._nodes.restore()
        with Reader(cache, goal.checksums) as reader:
            driver = start(self._config(cache), self._place / f"run-{run}.json")
            try:
                struck = strike(fault, driver, self._nodes, lambda: commits_of(cache), PATIENCE)
                there = commits_of(cache)
                killed = struck and fault.victim == "driver"
                resumed, wrong = self._finish(driver, cache, goal, killed=killed)
            except TimeoutError as error:
                driver.kill()
                raise RuntimeError(f"run {run}: {fault}: {error}") from error
        if fault.victim == "raylet" and struck:
            self._nodes.bury_second()
        wrong += [*reader.wrong, *_differences(cache, goal)]
        if not wrong:
            shutil.rmtree(cache)
        seconds = time.monotonic() - began
        return Outcome(fault, struck, there, resumed, reader.rounds, tuple(wrong), seconds)

    def _finish(
        self, driver: Driver, cache: Path, goal: Undisturbed, *, killed: bool
    ) -> tuple[int, list[str]]:
        """Until the command says that it is done, at once or, where its driver was killed, when
        it is given again: how often it was, and what is wrong."""
        code, again = driver.end(PATIENCE), 0
        if killed and code == -signal.SIGKILL:
            driver, again = start(self._config(cache), cache.with_suffix(".again.json")), 1
            code = driver.end(PATIENCE)
        if code:
            return again, [f"exit code {code}: {driver.errors()}"]
        told = driver.report()["content_digest"]
        return again, [] if told == goal.digest else [f"the command told the digest {told}"]

    def _config(self, cache: Path) -> Path:
        settings = {
            "teacher": {"path": str(self._place / "teacher"), "adapter": ADAPTER},
            "corpus": str(self._place / "wav" / "manifest.jsonl"),
            "cache": {"path": str(cache)},
            "targets": ["lattice"],
            "batch_seconds": 2.0,
            "unit_utterances": len(LENGTHS) // UNITS,
            "actors": 2,
            "ray": {"address": self._nodes.address},
        }
        path = self._place / f"{cache.name}.yaml"
        path.write_text(json.dumps(settings))
        return path


def commits_of(cache: Path) -> int:
    """Commits that are visible."""
    return len(list((cache / "commits").glob("*.json")))


def _differences(cache: Path, goal: Undisturbed) -> list[str]:
    """What sets a finished cache apart from the undisturbed one."""
    found = open_cache(cache)
    wrong = [f"{item.file}: {item.what}" for item in verify(cache)]
    if found.content_digest() != goal.digest:
        wrong.append(f"the content digest is {found.content_digest()}, expected {goal.digest}")
    if len(found.units) != UNITS:
        wrong.append(f"{len(found.units)} units, expected {UNITS}")
    return wrong
