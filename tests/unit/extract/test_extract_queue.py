"""What becomes of a unit whose actor died."""

from __future__ import annotations

from kdcache.extract.plan import make_unit
from kdcache.extract.queue import EXCUSES, MOST_BACK, WorkQueue
from kdcache.types import AudioRef, Utterance


def unit_of(*names: str):
    return make_unit("s", [tuple(Utterance(name, AudioRef(name), "one") for name in names)])


def drain(queue: WorkQueue, deadly: set[str]) -> tuple[list[str], list[str], int]:
    """Ids done, ids given up, and deaths, where touching a deadly id kills."""
    done, given_up, deaths = [], [], 0
    while task := queue.take():
        if not deadly & set(task.unit.ids):
            done += task.unit.ids
            continue
        deaths += 1
        if queue.lost(task):
            given_up += task.unit.ids
    return sorted(done), sorted(given_up), deaths


def test_units_come_in_order():
    queue = WorkQueue([unit_of("a"), unit_of("b")], 3)
    assert len(queue) == 2
    assert [queue.take().unit.ids, queue.take().unit.ids] == [("a",), ("b",)]
    assert queue.take() is None


def test_a_death_puts_the_unit_behind_the_others():
    queue = WorkQueue([unit_of("a"), unit_of("b")], 3)
    assert not queue.lost(queue.take())
    assert [queue.take().unit.ids, queue.take().unit.ids] == [("b",), ("a",)]


def test_whoever_was_lost_once_stands_beside_nobody():
    queue = WorkQueue([unit_of("a"), unit_of("b")], 3)
    first, second = queue.take(), queue.take_second()
    assert not first.suspect
    queue.lost_in_company(first)
    queue.lost_in_company(second)
    assert queue.take_second() is None
    assert queue.take() is first
    assert first.suspect
    assert first.deaths == 0


def test_nothing_is_left_to_stand_beside():
    assert WorkQueue([], 3).take_second() is None


def test_the_last_attempt_counts_before_a_split():
    queue = WorkQueue([unit_of("a", "b")], 2)
    task = queue.take()
    queue.lost(task)
    assert queue.take() is task
    queue.lost(task)
    assert [queue.take().unit.ids, queue.take().unit.ids] == [("a",), ("b",)]


def test_bisection_gives_up_the_poison_and_nothing_else():
    names = [f"u{i}" for i in range(16)]
    done, given_up, deaths = drain(WorkQueue([unit_of(*names)], 3), {"u5"})
    assert given_up == ["u5"]
    assert done == sorted(set(names) - {"u5"})
    # Three for the whole, one each for a half, quarter and eighth, three for the last one.
    assert deaths == 3 + 3 + 3


def test_several_poisons_are_all_found():
    names = [f"u{i}" for i in range(10)]
    done, given_up, _ = drain(
        WorkQueue([unit_of(*names[:5]), unit_of(*names[5:])], 1), {"u0", "u9"}
    )
    assert given_up == ["u0", "u9"]
    assert done == sorted(set(names) - {"u0", "u9"})


def test_storage_failures_are_counted_apart_from_deaths():
    queue = WorkQueue([unit_of("a", "b")], 2)
    task = queue.take()
    assert not queue.refused(task)
    assert queue.take() is task
    assert not queue.lost(task)
    assert queue.take() is task
    assert queue.refused(task)
    assert len(queue) == 0


def test_a_lost_node_is_an_excuse_for_some_time():
    queue = WorkQueue([unit_of("a")], 1)
    for _ in range(EXCUSES):
        assert not queue.lost_with_node(queue.take())
    assert queue.lost_with_node(queue.take()), "it is never suspected"


class TestPlans:
    class Plan:
        """Units that are made when they are asked for."""

        def __init__(self, count):
            self.count, self.made = count, 0

        def __len__(self):
            return self.count

        def __iter__(self):
            for number in range(self.count):
                self.made += 1
                yield unit_of(f"u{number}")

    def test_a_unit_is_made_when_it_is_its_turn(self):
        plan = self.Plan(1000)
        queue = WorkQueue(plan, 3)
        assert (len(queue), plan.made) == (1000, 0)
        queue.take()
        assert (len(queue), plan.made) == (999, 1)

    def test_what_came_back_does_not_pile_up(self):
        plan = self.Plan(1000)
        queue = WorkQueue(plan, 1000)
        for _ in range(1000):
            queue.refused(queue.take())
        assert plan.made == MOST_BACK
        assert len(queue) == 1000
        assert sorted(drain(queue, set())[0]) == sorted(f"u{n}" for n in range(1000))

    def test_a_second_unit_is_none_that_was_in_trouble(self):
        queue = WorkQueue([unit_of("a"), unit_of("b")], 3)
        queue.lost_in_company(queue.take())
        assert queue.take_second().unit.ids == ("b",)
        assert queue.take_second() is None
        assert queue.take().unit.ids == ("a",)
