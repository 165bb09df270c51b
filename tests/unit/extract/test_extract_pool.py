"""The pull loop against actors whose lives and deaths are scripted."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import pytest

from kdcache.errors import KdcacheError, StorageError, StorageFullError, TeacherError
from kdcache.extract.plan import make_unit
from kdcache.extract.pool import STARTS_IN_A_ROW, ActorLostError, Done, Pool
from kdcache.extract.queue import EXCUSES, WorkQueue
from kdcache.types import AudioRef, Utterance


def units_of(*groups: str):
    refs = [[Utterance(name, AudioRef(name), "one") for name in group] for group in groups]
    return [make_unit("s", [tuple(group)]) for group in refs]


@dataclass
class ScriptedActors:
    """Answers calls in the order in which they were made.

    ``outcome`` gets a unit (``None`` for a start) and how often a call was made in all, and
    returns what the call gives or raises.
    """

    outcome: object = None
    calls: dict[int, tuple[int, object]] = field(default_factory=dict)
    alive: set[int] = field(default_factory=set)
    killed: list[int] = field(default_factory=list)
    most_alive: int = 0
    most_calls: int = 0
    done: list[str] = field(default_factory=list)
    ids: object = field(default_factory=count)

    def spawn(self):
        actor = next(self.ids)
        self.alive.add(actor)
        self.most_alive = max(self.most_alive, len(self.alive))
        return actor, self._call(actor, None)

    def submit(self, actor, unit):
        assert actor in self.alive
        return self._call(actor, unit)

    def _call(self, actor, unit):
        call = next(self.ids)
        self.calls[call] = (actor, unit)
        self.most_calls = max(self.most_calls, len(self.calls))
        return call

    def wait(self, calls, seconds):
        assert set(calls) == set(self.calls), "the loop forgot a call"
        return [min(calls)]

    def result(self, call):
        _, unit = self.calls.pop(call)
        given = self.outcome(unit) if self.outcome else None
        if isinstance(given, ActorLostError):
            raise given
        if given is None and unit is not None:
            self.done += unit.ids
            return Done(len(unit), 0, 1.0, 1.0)
        return given

    def kill(self, actor):
        self.alive.discard(actor)
        self.killed.append(actor)
        self.calls = {call: made for call, made in self.calls.items() if made[0] != actor}


@dataclass
class Time:
    """Passes only while the loop sleeps."""

    now: float = 0.0

    def sleep(self, seconds):
        self.now += seconds


def run(actors, units, size=2, max_attempts=2, keep_going=lambda: True, time=None):
    done, given_up = [], []
    time = time or Time()
    pool = Pool(
        actors,
        WorkQueue(units, max_attempts),
        size=size,
        max_attempts=max_attempts,
        on_done=done.append,
        give_up=lambda unit, why: given_up.append((unit.ids, why)),
        clock=lambda: time.now,
        sleep=time.sleep,
    )
    try:
        pool.run(keep_going)
    finally:
        assert not actors.alive, "actors are left behind"
    return done, given_up


def lost_on(*names: str):
    def outcome(unit):
        dead = unit is not None and set(names) & set(unit.ids)
        return ActorLostError("killed") if dead else None

    return outcome


def test_every_unit_is_done_once():
    actors = ScriptedActors()
    done, given_up = run(actors, units_of("ab", "cd", "e"))
    assert sorted(actors.done) == list("abcde")
    assert sum(item.packed for item in done) == 5
    assert given_up == []


def test_no_more_actors_than_asked_for_or_useful():
    actors = ScriptedActors()
    run(actors, units_of(*"abcdefgh"), size=3)
    assert actors.most_alive == 3
    assert actors.most_calls == 6, "each has its next unit in hand"
    few = ScriptedActors()
    run(few, units_of("a"), size=8)
    assert few.most_alive == 1


class TestASecondUnit:
    def calls_of(self, actors):
        """Records how many units an actor has whenever it is given one."""
        loads = []
        submit = actors.submit

        def counted(actor, unit):
            call = submit(actor, unit)
            mine = [made for made in actors.calls.values() if made[0] == actor]
            loads.append((unit.ids, len(mine)))
            return call

        actors.submit = counted
        return loads

    def test_is_in_hand_while_there_are_units_for_all(self):
        actors = ScriptedActors()
        loads = self.calls_of(actors)
        run(actors, units_of(*"abcd"), size=1)
        assert [load for _, load in loads] == [1, 2, 2, 2]
        assert sorted(actors.done) == list("abcd")

    def test_is_not_taken_from_an_actor_that_starts(self):
        actors = ScriptedActors()
        loads = self.calls_of(actors)
        run(actors, units_of(*"ab"), size=2)
        assert [load for _, load in loads] == [1, 1]

    def test_no_more_than_two(self):
        actors = ScriptedActors()
        loads = self.calls_of(actors)
        run(actors, units_of(*"abcdefghij"), size=1)
        assert max(load for _, load in loads) == 2

    def test_of_two_that_died_together_neither_is_blamed_and_the_guilty_one_is_found(self):
        actors = ScriptedActors(lost_on("b"))
        loads = self.calls_of(actors)
        _, given_up = run(actors, units_of("a", "b", "c", "d"), size=1, max_attempts=2)
        assert given_up == [(("b",), "killed")]
        assert sorted(actors.done) == list("acd")
        assert [load for ids, load in loads if ids == ("b",)] == [2, 1, 1]

    def test_parts_of_a_unit_that_kills_are_alone(self):
        actors = ScriptedActors(lost_on("c"))
        loads = self.calls_of(actors)
        _, given_up = run(actors, units_of("abcd", *"efgh"), size=1, max_attempts=1)
        assert given_up == [(("c",), "killed")]
        assert sorted(actors.done) == list("abdefgh")
        assert all(load == 1 for ids, load in loads if set(ids) < set("abcd"))

    def test_a_lost_node_costs_both_nothing(self):
        losses = iter([ActorLostError("node gone", with_node=True)])
        actors = ScriptedActors(lambda unit: next(losses, None) if unit else None)
        _, given_up = run(actors, units_of(*"abc"), size=1, max_attempts=1)
        assert given_up == []
        assert sorted(actors.done) == list("abc")

    def test_a_storage_that_refuses_one_leaves_the_other(self):
        refusals = iter([StorageError("503")])
        actors = ScriptedActors(lambda unit: next(refusals, None) if unit else None)
        run(actors, units_of(*"abc"), size=1)
        assert sorted(actors.done) == list("abc")
        assert len(actors.killed) == 1


def test_a_dead_actor_is_replaced_and_its_unit_done():
    deaths = iter([ActorLostError("killed")])
    actors = ScriptedActors(lambda unit: next(deaths, None) if unit else None)
    _, given_up = run(actors, units_of("ab", "cd", "ef"))
    assert sorted(actors.done) == list("abcdef")
    assert given_up == []


def test_one_poison_is_isolated():
    actors = ScriptedActors(lost_on("c"))
    _, given_up = run(actors, units_of("abcd", "ef"), max_attempts=3)
    assert given_up == [(("c",), "killed")]
    assert sorted(actors.done) == list("abdef")


def test_when_every_unit_kills_the_run_ends():
    names = "abcdefghijklmnop"
    actors = ScriptedActors(lost_on(*names))
    with pytest.raises(KdcacheError, match="batch_seconds") as caught:
        run(actors, units_of(*names), max_attempts=3)
    assert "killed" in caught.value.message
    assert actors.done == []


def test_actors_that_cannot_start_end_the_run():
    actors = ScriptedActors(lambda unit: None if unit else ActorLostError("no memory"))
    with pytest.raises(KdcacheError, match="while they were starting"):
        run(actors, units_of("a", "b"), size=1)
    assert len(actors.killed) == STARTS_IN_A_ROW


def test_a_start_that_fails_once_is_no_matter():
    starts = iter([ActorLostError("node gone")])
    actors = ScriptedActors(lambda unit: None if unit else next(starts, None))
    run(actors, units_of("a", "b"))
    assert sorted(actors.done) == ["a", "b"]


def test_an_error_at_the_start_ends_the_run_as_it_is():
    actors = ScriptedActors(lambda unit: TeacherError("no weights"))
    with pytest.raises(TeacherError, match="no weights"):
        run(actors, units_of("a"))


def test_storage_gets_another_chance():
    failures = iter([StorageError("disk full")])
    actors = ScriptedActors(lambda unit: next(failures, None) if unit else None)
    run(actors, units_of("a", "b"))
    assert sorted(actors.done) == ["a", "b"]
    assert actors.most_alive == 2, "a storage failure costs no actor"


def test_storage_that_stays_broken_ends_the_run():
    actors = ScriptedActors(lambda unit: StorageError("disk full") if unit else None)
    with pytest.raises(StorageError, match="disk full"):
        run(actors, units_of("a", "b"), max_attempts=2)


def test_any_other_error_of_a_unit_ends_the_run_at_once():
    errors = []

    def outcome(unit):
        if unit is None:
            return None
        errors.append(unit)
        return KdcacheError("columns do not fit")

    with pytest.raises(KdcacheError, match="do not fit"):
        run(ScriptedActors(outcome), units_of("a", "b"), size=1)
    assert len(errors) == 1


def test_a_wish_to_stop_is_heard_and_leaves_no_actor():
    actors = ScriptedActors()
    done, _ = run(actors, units_of(*"abcdef"), size=1, keep_going=lambda: len(actors.done) < 2)
    assert len(done) == 2
    assert actors.done == ["a", "b"]


class TestRests:
    def test_a_single_death_is_made_up_for_at_once(self):
        deaths = iter([ActorLostError("killed")])
        time = Time()
        run(ScriptedActors(lambda unit: next(deaths, None)), units_of("a", "b"), time=time)
        assert time.now == 0.0

    def test_deaths_in_a_row_are_followed_by_growing_rests(self):
        deaths = iter([ActorLostError("killed")] * 5)
        time = Time()
        actors = ScriptedActors(lambda unit: next(deaths, None) if unit else None)
        run(actors, units_of("a"), size=1, max_attempts=9, time=time)
        assert time.now == 1 + 2 + 4 + 8
        assert actors.done == ["a"]

    def test_a_storage_that_fails_is_left_alone_for_longer_and_longer(self):
        failures = iter([StorageError("503")] * 3)
        time = Time()
        actors = ScriptedActors(lambda unit: next(failures, None) if unit else None)
        run(actors, units_of("a"), size=1, max_attempts=9, time=time)
        assert time.now == 1 + 2 + 4
        assert actors.killed == [0], "a storage failure costs no actor"

    def test_success_ends_the_rest(self):
        answers = iter([ActorLostError("killed"), None] * 6)
        time = Time()
        actors = ScriptedActors(lambda unit: next(answers, None) if unit else None)
        run(actors, units_of(*"abcdef"), size=1, max_attempts=9, time=time)
        assert time.now == 0.0


class TestLostNodes:
    def test_they_are_not_held_against_the_utterance(self):
        losses = iter([ActorLostError("node gone", with_node=True)] * 2 * EXCUSES)
        actors = ScriptedActors(lambda unit: next(losses, None) if unit else None)
        _, given_up = run(actors, units_of("a", "b"), max_attempts=1)
        assert given_up == []
        assert sorted(actors.done) == ["a", "b"]

    def test_nor_against_the_start(self):
        losses = iter([ActorLostError("node gone", with_node=True)] * 2 * STARTS_IN_A_ROW)
        actors = ScriptedActors(lambda unit: None if unit else next(losses, None))
        run(actors, units_of("a"), size=1)
        assert actors.done == ["a"]

    def test_an_utterance_that_takes_node_after_node_is_isolated(self):
        def outcome(unit):
            bad = unit is not None and "c" in unit.ids
            return ActorLostError("node gone", with_node=True) if bad else None

        actors = ScriptedActors(outcome)
        _, given_up = run(actors, units_of("abcd", "ef"), max_attempts=1)
        assert given_up == [(("c",), "node gone")]
        assert sorted(actors.done) == list("abdef")

    def test_without_end_they_end_the_run(self):
        time = Time()
        actors = ScriptedActors(
            lambda unit: ActorLostError("node gone", with_node=True) if unit else None
        )
        with pytest.raises(KdcacheError, match="same command resumes"):
            run(actors, units_of(*map(chr, range(97, 197))), time=time)
        assert time.now > 1800, "it gave up too early"


def test_a_full_storage_ends_the_run_at_once():
    tried = []

    def outcome(unit):
        if unit is None:
            return None
        tried.append(unit)
        return StorageFullError("No space left on device")

    with pytest.raises(StorageFullError, match="No space"):
        run(ScriptedActors(outcome), units_of("a", "b"), size=1, max_attempts=9)
    assert len(tried) == 1


class TestSize:
    """Actors come and go with the cluster."""

    def play(self, actors, units, sizes):
        """Run with another size before each step; the last one stays."""
        steps = iter(sizes)
        pool = Pool(
            actors,
            WorkQueue(units, 2),
            size=next(steps),
            max_attempts=2,
            on_done=lambda done: None,
            give_up=lambda unit, why: None,
        )
        seen = []

        def keep_going():
            if size := next(steps, None):
                pool.resize(size)
            seen.append(len(actors.alive))
            return True

        pool.run(keep_going)
        return seen

    def test_a_cluster_that_grows_gets_more(self):
        actors = ScriptedActors()
        seen = self.play(actors, units_of(*"abcdefghijklmnop"), [1, 1, 1, 1, 4])
        assert actors.most_alive == 4
        assert seen[3] == 1
        assert sorted(actors.done) == list("abcdefghijklmnop")

    def test_a_cluster_that_shrinks_loses_those_without_a_unit(self):
        actors = ScriptedActors()
        seen = self.play(actors, units_of(*map(chr, range(97, 137))), [4, *[4] * 12, 1])
        assert actors.most_alive == 4
        assert seen[-1] == 1
        assert sorted(actors.done) == [chr(n) for n in range(97, 137)], "a unit was cut off"

    def test_those_go_first_that_wait_for_a_place(self):
        actors = ScriptedActors()
        self.play(actors, units_of(*"abcd"), [3, 3, 1])
        # Of three that were asked for one had started when two became too many.
        assert actors.killed[:2] == [4, 2]
        assert sorted(actors.done) == list("abcd")


class TestTelling:
    def events(self, outcome, units, **settings):
        told, time = [], Time()
        actors = ScriptedActors(outcome)
        pool = Pool(
            actors,
            WorkQueue(units, settings.get("max_attempts", 2)),
            size=1,
            max_attempts=settings.get("max_attempts", 2),
            on_done=lambda done: None,
            give_up=lambda unit, why: None,
            tell=lambda event, **about: told.append((event, about)),
            clock=lambda: time.now,
            sleep=time.sleep,
        )
        pool.run(lambda: True)
        return told

    def names(self, told):
        return [event for event, _ in told]

    def test_a_run_without_trouble(self):
        told = self.events(None, units_of("ab"))
        assert self.names(told) == ["actor_started", "unit_done"]
        assert told[0][1] == {"actors": 1}
        assert told[1][1]["packed"] == 2

    def test_a_death_and_a_retry(self):
        deaths = iter([ActorLostError("killed")])
        told = self.events(lambda unit: next(deaths, None) if unit else None, units_of("ab"))
        assert self.names(told) == [
            *("actor_started", "actor_lost", "unit_retried"),
            *("actor_started", "unit_done"),
        ]
        (unit,) = units_of("ab")
        assert told[1][1] == {
            "actors": 0,
            "units": [unit.key],
            "with_node": False,
            "why": "killed",
        }
        assert told[2][1] == {"unit": unit.key, "parts": 1}

    def test_a_split_and_an_utterance_that_is_given_up(self):
        told = self.events(lost_on("b"), units_of("ab"), max_attempts=1)
        retried = [about["parts"] for event, about in told if event == "unit_retried"]
        assert retried == [2]
        failed = [about for event, about in told if event == "utterance_failed"]
        assert [(one["id"], one["code"], one["message"]) for one in failed] == [
            ("b", "crash", "killed")
        ]

    def test_what_failed_inside_a_unit_and_batches_that_were_halved(self):
        done = Done(1, 1, 1.0, 1.0, bytes=7, halvings=2, failures=(("b", "audio", "no file"),))
        told = self.events(lambda unit: done if unit else None, units_of("ab"))
        assert self.names(told) == [
            *("actor_started", "utterance_failed", "batch_halved", "unit_done")
        ]
        assert told[1][1]["message"] == "no file"
        assert told[2][1]["halvings"] == told[3][1]["halvings"] == 2
        assert told[3][1]["bytes"] == 7

    def test_a_storage_that_refuses(self):
        failures = iter([StorageError("503")])
        told = self.events(lambda unit: next(failures, None) if unit else None, units_of("a"))
        assert self.names(told)[1:] == ["storage_refused", "unit_retried", "unit_done"]
        assert told[1][1]["message"] == "503"
