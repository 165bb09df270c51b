"""Units and batches: pure, deterministic, and blind to everything but what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.extract.plan import Holdings, cut_batches, make_unit, plan_units, shown, split_unit
from kdcache.types import AudioRef, Utterance


def utterance(name: str, duration: float | None = 1.0, text: str = "one") -> Utterance:
    return Utterance(name, AudioRef(f"{name}.wav", 0.0, duration), text)


def corpus_of(count: int) -> list[Utterance]:
    return [utterance(f"u{i:03d}", 1.0 + i * 7 % 5) for i in range(count)]


def plan(corpus, **settings):
    return plan_units(
        corpus, **{"spec": "s", "unit_utterances": 10, "batch_seconds": 8.0, **settings}
    )


durations = st.one_of(st.none(), st.floats(0.01, 100, allow_nan=False))
corpora = st.lists(durations, max_size=60).map(
    lambda items: [utterance(f"u{i:02d}", d) for i, d in enumerate(items)]
)


class TestBatches:
    @given(corpora, st.floats(0.5, 200))
    def test_every_utterance_once_and_no_batch_too_long(self, corpus, seconds):
        batches = cut_batches(corpus, seconds)
        assert sorted(u.id for batch in batches for u in batch) == [u.id for u in corpus]
        for batch in batches:
            longest = max(u.duration for u in batch)
            assert len(batch) == 1 or longest * len(batch) <= seconds * (1 + 1e-9)

    @given(corpora, st.randoms())
    def test_order_of_the_corpus_does_not_matter(self, corpus, random):
        shuffled = random.sample(corpus, len(corpus))
        assert cut_batches(shuffled, 10.0) == cut_batches(corpus, 10.0)

    def test_alike_durations_share_a_batch_longest_first(self):
        corpus = [utterance("a", 1.0), utterance("b", 4.0), utterance("c", 1.0), utterance("d", 4)]
        ids = [[u.id for u in batch] for batch in cut_batches(corpus, 8.0)]
        assert ids == [["b", "d"], ["a", "c"]]

    def test_too_long_or_of_unknown_duration_stands_alone(self):
        corpus = [utterance("a", 100.0), utterance("b", None), utterance("c", None)]
        corpus += [utterance("d", 1.0)]
        ids = [[u.id for u in batch] for batch in cut_batches(corpus, 8.0)]
        assert ids == [["a"], ["d"], ["b"], ["c"]]


class TestKeys:
    def test_equal_work_has_an_equal_key(self):
        assert plan(corpus_of(25)) == plan(corpus_of(25))
        assert len({unit.key for unit in plan(corpus_of(25)).units}) == 3

    @pytest.mark.parametrize(
        "changed",
        [
            {"id": "other"},
            {"text": "two"},
            {"audio": AudioRef("other.wav", 0.0, 1.0)},
            {"audio": AudioRef("a.wav", 0.5, 1.0)},
            {"audio": AudioRef("a.wav", 0.0, 0.5)},
        ],
    )
    def test_other_work_has_another_key(self, changed):
        one = utterance("a")
        assert make_unit("s", [(one,)]).key != make_unit("s", [(replace(one, **changed),)]).key

    def test_the_key_tells_specs_batches_and_retries_apart(self):
        a, b = utterance("a"), utterance("b")
        keys = {
            make_unit("s", [(a, b)]).key,
            make_unit("t", [(a, b)]).key,
            make_unit("s", [(a,), (b,)]).key,
            make_unit("s", [(a, b)], retry="r").key,
        }
        assert len(keys) == 4

    def test_the_speaker_is_not_computed_from(self):
        one = utterance("a")
        assert make_unit("s", [(one,)]).key == make_unit("s", [(replace(one, speaker="x"),)]).key


class TestPlan:
    def test_units_are_cut_in_corpus_order(self):
        corpus = corpus_of(25)
        units = plan(corpus).units
        assert [len(unit) for unit in units] == [10, 10, 5]
        assert [sorted(unit.ids) for unit in units] == [
            [u.id for u in corpus[start : start + 10]] for start in (0, 10, 20)
        ]

    def test_what_is_there_is_not_planned_and_the_rest_keeps_its_batches(self):
        corpus = corpus_of(20)
        whole, second = plan(corpus).units
        there = frozenset(whole.ids[2:])
        made = plan(corpus, held=Holdings(present=there))
        assert made.units[1] == second
        assert made.units[0].key != whole.key
        expected = [tuple(u for u in b if u.id not in there) for b in whole.batches]
        assert list(made.units[0].batches) == [batch for batch in expected if batch]
        assert (made.present, made.failed, made.missing) == (8, 0, 12)

    def test_a_unit_with_nothing_missing_is_skipped(self):
        corpus = corpus_of(20)
        first, second = plan(corpus).units
        assert plan(corpus, held=Holdings(present=frozenset(first.ids))).units == (second,)
        everything = frozenset(u.id for u in corpus)
        assert plan(corpus, held=Holdings(present=everything)).units == ()

    def test_ids_of_other_corpora_count_for_nothing(self):
        made = plan(corpus_of(3), held=Holdings(frozenset({"x", "u001"}), frozenset({"y"})))
        assert (made.present, made.failed, made.missing) == (1, 0, 2)

    def test_failures_are_left_alone_unless_asked_for(self):
        corpus = corpus_of(10)
        held = Holdings(frozenset(u.id for u in corpus[2:]), frozenset({"u000", "u001"}))
        assert plan(corpus, held=held).units == ()
        assert plan(corpus, held=held).failed == 2
        again = plan(corpus, held=held, retry_failed=True)
        assert sorted(again.units[0].ids) == ["u000", "u001"]
        assert again.failed == 0

    def test_each_retry_has_a_name_of_its_own(self):
        corpus = corpus_of(2)
        failed = frozenset({"u000", "u001"})
        first = plan(corpus).units[0]
        names = {first.key}
        for commits in ({first.key}, {first.key, "second"}):
            held = Holdings(failed=failed, units=frozenset(commits))
            unit = plan(corpus, held=held, retry_failed=True).units[0]
            names |= {unit.key, *(part.key for part in split_unit(unit))}
        assert len(names) == 1 + 2 * 3

    def test_a_first_time_unit_beside_a_retried_one_keeps_its_name(self):
        corpus = corpus_of(20)
        held = Holdings(failed=frozenset({"u000"}), units=frozenset({"k"}))
        again = plan(corpus, held=held, retry_failed=True).units
        assert again[1] == plan(corpus).units[1]
        assert again[0].key != plan(corpus).units[0].key


class TestSplit:
    def test_batches_stay_whole_while_there_are_several(self):
        unit = plan(corpus_of(10)).units[0]
        left, right = split_unit(unit)
        assert left.batches + right.batches == unit.batches

    def test_a_single_batch_is_halved(self):
        unit = make_unit("s", [tuple(corpus_of(5))], retry="r")
        left, right = split_unit(unit)
        assert left.ids + right.ids == unit.ids
        assert (len(left), len(right)) == (2, 3)
        assert left.retry == right.retry == "r"

    def test_one_utterance_is_not_split(self):
        unit = make_unit("s", [(utterance("a"),)])
        assert split_unit(unit) == (unit,)

    @given(corpora.filter(bool))
    def test_splitting_ends_with_every_utterance_alone(self, corpus):
        waiting, alone = [make_unit("s", cut_batches(corpus, 30.0))], []
        while waiting:
            unit = waiting.pop()
            (alone if len(unit) == 1 else waiting).extend(split_unit(unit))
        assert sorted(i for unit in alone for i in unit.ids) == [u.id for u in corpus]


def test_long_lists_of_ids_are_cut_short():
    assert shown(["a"]) == "'a'"
    assert shown(list("abcde")) == "'a', 'b', 'c' and 2 more"
