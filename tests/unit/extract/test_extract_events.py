"""The events file: a line an event, whatever happened to it before."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from kdcache.errors import ConfigError
from kdcache.extract import ExtractConfig
from kdcache.extract.cluster import Crew
from kdcache.extract.events import EventLog, open_log
from kdcache.extract.pool import Done
from kdcache.extract.record import BEAT, Record
from kdcache.extract.tally import Tally
from kdcache.inspect.runs import read_events, state_of


def config(tmp_path, **changes):
    settings = {
        "teacher": {"path": "t"},
        "corpus": "c",
        "cache": {"path": str(tmp_path / "cache")},
        "targets": "lattice",
    }
    return ExtractConfig.model_validate({**settings, **changes})


def noon():
    return datetime(2026, 11, 21, 12, tzinfo=UTC)


class TestLog:
    def test_a_line_an_event(self, tmp_path):
        log = EventLog(tmp_path / "new" / "events.jsonl", noon)
        log("actor_started", actors=1)
        log("utterance_failed", id="ü", message="two\nlines")
        log.close()
        log("progress")  # after the end: nothing
        text = (tmp_path / "new" / "events.jsonl").read_text(encoding="utf-8")
        first, second = text.splitlines()
        time = "2026-11-21T12:00:00.000Z"
        assert json.loads(first) == {"time": time, "event": "actor_started", "actors": 1}
        assert json.loads(second)["message"] == "two\nlines"
        assert "ü" in second

    def test_half_a_line_of_a_crash_is_left_alone_and_costs_no_other(self, tmp_path):
        file = tmp_path / "events.jsonl"
        file.write_text('{"time": "x", "event": "unit_done"}\n{"time": "x", "eve')
        EventLog(file)("progress")
        assert [event["event"] for event in read_events(file)] == ["unit_done", "progress"]

    def test_a_file_that_cannot_be_opened_is_said(self, tmp_path):
        with pytest.raises(ConfigError, match="--set events=FILE"):
            EventLog(tmp_path)

    def test_a_disk_that_fills_up_ends_the_events_alone(self, tmp_path, monkeypatch):
        log = EventLog(tmp_path / "events.jsonl")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        log("progress")
        log("progress")


class TestPlace:
    def test_a_new_file_in_the_cache_for_each_run(self, tmp_path):
        for _ in range(2):
            log = open_log(config(tmp_path))
            log("progress")
            log.close()
        assert len(list((tmp_path / "cache" / "runs").glob("*.jsonl"))) == 2

    def test_the_file_of_the_settings(self, tmp_path):
        open_log(config(tmp_path, events=tmp_path / "e.jsonl"))("progress")
        assert [event["event"] for event in read_events(tmp_path / "e.jsonl")] == ["progress"]
        assert not (tmp_path / "cache").exists()

    def test_none_where_the_cache_is_no_directory(self, tmp_path):
        open_log(config(tmp_path, cache={"path": "memory://name/cache"}))("progress")

    def test_none_where_it_cannot_be_written(self, tmp_path):
        (tmp_path / "cache").write_text("no directory")
        open_log(config(tmp_path))("progress")


class Metrics:
    def __init__(self):
        self.seen = []

    def update(self, now):
        self.seen.append(now.done)


class TestRecord:
    @pytest.fixture
    def run(self, tmp_path):
        """A record, its clock, its metrics, and its file."""
        now = SimpleNamespace(seconds=0.0)
        metrics, file = Metrics(), tmp_path / "events.jsonl"
        tally = Tally(10, lambda _: None, lambda: now.seconds)
        record = Record(tally, EventLog(file), metrics)
        plan = SimpleNamespace(missing=10, units=[1, 2], present=3, failed=1)
        ready = SimpleNamespace(plan=plan, writer=SimpleNamespace(location="runs/cache"))
        record.begin(ready, Crew(2, 1.0, 0.0, "cpu"))
        return SimpleNamespace(now=now, record=record, metrics=metrics, file=file)

    def test_it_says_what_it_sets_out_to_do_and_how_far_it_is(self, run):
        run.now.seconds = 2.0
        run.record.tell("actor_started", actors=1)
        run.record.add(Done(5, 0, 60.0, 1.0, bytes=100))
        run.record.tell("unit_done", unit="u0", packed=5)
        begun, _, done = read_events(run.file)
        assert (begun["utterances"], begun["units"], begun["cache"]) == (10, 2, "runs/cache")
        assert (begun["actors"], begun["device"], begun["present"]) == (2, "cpu", 3)
        totals = done["run"]
        assert (totals["done"], totals["bytes"], totals["speed"]) == (5, 100, 30.0)
        assert (totals["actors"], totals["seconds_left"]) == (1, 2.0)

    def test_it_is_told_every_minute_that_the_run_lives(self, run):
        for _ in range(3):
            run.now.seconds += 0.6 * BEAT
            run.record.show()
        events = [event["event"] for event in read_events(run.file)]
        assert events == ["run_started", "progress"]
        assert run.metrics.seen == [0, 0, 0]

    def test_the_end_is_told_to_all(self, run):
        run.record.add(Done(4, 1, 60.0, 1.0))
        run.record.add_given_up()
        run.record.end("incomplete")
        state = state_of(run.file)
        assert (state.state, state.done, state.failed) == ("incomplete", 6, 2)
        assert run.metrics.seen == [6]
