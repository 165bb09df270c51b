"""What a run's events file says of it, whatever state the file is in."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.inspect.runs import SILENT, last_run, read_events, run_lines, state_of

TIME = "2026-11-21T12:00:00.000Z"
NOW = datetime.fromisoformat(TIME).timestamp()
TOTALS = {
    "done": 400,
    "failed": 1,
    "speed": 812.4,
    "bytes": 3_400_000,
    "actors": 2,
    "seconds_left": 90.0,
}


def line(event: str, **about: object) -> str:
    return json.dumps({"time": TIME, "event": event, **about}) + "\n"


BEGUN = line("run_started", utterances=1000, actors=2)
DONE = line("unit_done", unit="u0", run=TOTALS)


def save(folder: Path, text: str, name: str = "run.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    state = state_of(save(tmp_path, BEGUN + DONE), NOW + 10)
    assert state is not None
    assert (state.state, state.done, state.total, state.actors) == ("running", 400, 1000, 2)
    assert run_lines(state) == [
        "  last run      running, 400 of 1,000 utterances, 812× real time, 3.4 MB, 2 actors, "
        "1.5 min left, 1 failed"
    ]


def test_a_run_that_says_nothing_any_more_is_lost(tmp_path: Path) -> None:
    state = state_of(save(tmp_path, BEGUN + DONE), NOW + SILENT + 1)
    assert state is not None
    assert state.state == "lost"


def test_a_run_that_has_ended_says_how(tmp_path: Path) -> None:
    end = line("run_ended", outcome="failed", message="The disk is full.", run=TOTALS)
    state = state_of(save(tmp_path, BEGUN + DONE + end), NOW + 1e9)
    assert state is not None
    assert (state.state, state.message) == ("failed", "The disk is full.")
    assert run_lines(state)[1] == "                The disk is full."


def test_of_several_runs_in_a_file_the_last_counts(tmp_path: Path) -> None:
    again = line("run_started", utterances=600, actors=2)
    state = state_of(save(tmp_path, BEGUN + DONE + again), NOW)
    assert state is not None
    assert (state.done, state.total) == (0, 600)


@pytest.mark.parametrize("text", ["", DONE, "not JSON\n", "[]\n", line("run_started")])
def test_what_tells_of_no_run(tmp_path: Path, text: str) -> None:
    assert state_of(save(tmp_path, text), NOW) is None


@given(st.integers(1, len(DONE) - 2))
def test_half_a_line_is_skipped(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = save(Path(folder), BEGUN + DONE[:cut])
        assert [event["event"] for event in read_events(file)] == ["run_started"]


class FolderOfRuns:
    """As much of a cache as is asked for."""

    def __init__(self, path: Path, is_remote: bool = False) -> None:
        self.path, self.is_remote = path, is_remote


def test_the_last_file_that_tells_of_a_run_counts(tmp_path: Path) -> None:
    save(tmp_path / "runs", BEGUN, "20261121T110000Z-aa.jsonl")
    save(tmp_path / "runs", BEGUN + DONE, "20261121T120000Z-aa.jsonl")
    save(tmp_path / "runs", "", "20261121T130000Z-aa.jsonl")
    state = last_run(FolderOfRuns(tmp_path), NOW)
    assert state is not None
    assert state.done == 400


def test_where_there_are_none(tmp_path: Path) -> None:
    assert last_run(FolderOfRuns(tmp_path)) is None
    assert last_run(FolderOfRuns(tmp_path, is_remote=True)) is None
