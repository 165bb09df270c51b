"""The driver's memory is the corpus's characters and a few bytes an utterance, and stays so."""

from __future__ import annotations

import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from kdcache.corpus.table import UtteranceTable
from kdcache.extract.plan import plan_units
from kdcache.extract.pool import Done, Pool
from kdcache.extract.queue import WorkQueue
from kdcache.extract.tally import Tally
from kdcache.types import AudioRef, Utterance

PLAN_BYTES = 2
"""Of an utterance, beside the corpus."""

WORKING_BYTES = 64e6
"""Of everything else that a run of any size has at once."""


def corpus_of(count: int) -> UtteranceTable:
    def utterances():
        for n in range(count):
            audio = AudioRef(f"/corpora/train/{n // 1000:06d}/{n:09d}.flac", 0.0, 5.0 + n % 20)
            text = (
                f"number {n} of a corpus whose transcripts are as long as a sentence that is read"
            )
            yield Utterance(f"utterance-{n:09d}", audio, text, f"speaker-{n % 1000}")

    return UtteranceTable.of(utterances())


class Instant:
    """Actors whose teacher needs no time: a call is its own result."""

    def __init__(self) -> None:
        self.names = 0

    def spawn(self):
        self.names += 1
        return self.names, (self.names, None)

    def submit(self, actor, unit):
        return actor, unit.key, Done(len(unit), 0, 12.0 * len(unit), 1.0, bytes=1000)

    def wait(self, calls, seconds):
        return list(calls)

    def result(self, call):
        return call[-1]

    def kill(self, actor):
        pass


def run(corpus: UtteranceTable, size: int = 2) -> Tally:
    """Plan and work off a corpus, as a driver does."""
    plan = plan_units(corpus, spec="s", unit_utterances=200, batch_seconds=120.0)
    tally = Tally(plan.missing, lambda told: None)
    queue = WorkQueue(plan.units, 3)
    pool = Pool(
        Instant(), queue, size=size, max_attempts=3, on_done=tally.add, give_up=lambda *_: None
    )
    pool.run(lambda: True)
    return tally


def test_memory_stays_flat_while_a_run_goes() -> None:
    """What a run adds to its corpus does not depend on how long that is."""
    added = []
    for count in (5_000, 20_000):
        corpus = corpus_of(count)
        tracemalloc.start()
        try:
            assert run(corpus).done == count
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        added.append(peak - PLAN_BYTES * count)
    # An object an utterance would be 15,000 × 600 bytes.
    assert added[1] - added[0] < 1e6


def measure(count: int) -> None:
    """Run in a process of its own; prints utterances done, bytes of the corpus, and by how many
    bytes the process has grown at most."""
    run(corpus_of(1000))  # whatever is imported or made once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    corpus = corpus_of(count)
    done = run(corpus).done
    print(done, corpus.nbytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def measured(count: int) -> tuple[int, int, int]:
    told = subprocess.run(
        [sys.executable, __file__, str(count)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    done, corpus, growth = map(int, told.stdout.split())
    return done, corpus, growth


@pytest.mark.slow
def test_a_million_utterances() -> None:
    """A corpus, its plan, its queue and its run: the bound that docs/scale.md states."""
    count = 1_000_000
    done, corpus, growth = measured(count)
    assert done == count
    assert corpus < 250e6
    assert growth < corpus + PLAN_BYTES * count + WORKING_BYTES


if __name__ == "__main__":
    measure(int(sys.argv[1]))
