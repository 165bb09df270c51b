"""Arms side by side: who is whose control, what is averaged, what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import ConfigError, InputError
from kdcache.score.arms import compare_arms
from kdcache.score.arms_text import arms_table
from kdcache.score.counts import ErrorCounts, count_all, read_counts, write_counts
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path


def model(errors: list[int], figures: dict[str, float] | None = None, **labels: Any) -> ErrorCounts:
    ids = tuple(f"u{n}" for n in range(len(errors)))
    return ErrorCounts(labels, ids, ids, (10,) * len(errors), tuple(errors), figures or {})


MODELS = [
    model([0, 0], {"parameters": 900.0}, model="teacher"),
    model([4, 4], {"parameters": 100.0}, size="small", kd="none", seed=0),
    model([2, 2], {"parameters": 100.0}, size="small", kd="none", seed=1),
    model([3, 3], {"parameters": 100.0, "extra": 0.125}, size="small", kd="full", seed=0),
    model([2, 0], {"parameters": 500.0}, size="large", kd="none", seed=0),
    model([1, 0], {"parameters": 500.0}, kd="full", size="large", seed=0),
]
CONTROLS = {"against none": {"kd": "none"}}


def test_seeds_make_one_arm() -> None:
    arms = compare_arms(MODELS, CONTROLS)
    assert [arm.name for arm in arms] == [
        "teacher",
        "small · none",
        "small · full",
        "large · none",
        "full · large",
    ]
    assert arms[1].seeds == 2
    assert (arms[1].wer, arms[1].wer_low, arms[1].wer_high) == pytest.approx((0.3, 0.2, 0.4))


def test_each_arm_has_its_own_control() -> None:
    changes = [arm.changes["against none"] for arm in compare_arms(MODELS, CONTROLS)]
    assert [change and round(change.change, 6) for change in changes] == [
        None, None, 0.0, None, -0.5,
    ]  # fmt: skip


def test_figures_are_means_of_what_all_seeds_have() -> None:
    arms = compare_arms(
        [*MODELS, model([3, 3], {"parameters": 120.0}, size="small", kd="full")], {}
    )
    assert arms[2].figures == {"parameters": 110.0}


def test_a_control_that_fits_nothing_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="'kd': 'nnoe'.*fits no arm; there are teacher; small"):
        compare_arms(MODELS, {"against none": {"kd": "nnoe"}})


def test_the_table() -> None:
    table = arms_table(compare_arms(MODELS, CONTROLS))
    head, rule, teacher, none, full, *_ = table.splitlines()
    assert "against none, 95 % interval" in head
    assert set(rule) <= set("|-: ")
    assert len({len(line) for line in table.splitlines()}) == 1
    assert teacher.replace(" ", "").startswith("|teacher|1|0.00%|–|–|900|")
    assert "| 30.00% |  20.00% – 40.00% |" in none
    assert "+0.0% (" in full
    assert "0.125" in full


def test_a_fall_is_written_with_a_minus_sign() -> None:
    assert "−50.0% (" in arms_table(compare_arms(MODELS, CONTROLS))


def test_only_the_columns_that_are_asked_for() -> None:
    assert "parameters" not in arms_table(compare_arms(MODELS, {}), ["extra"])


# The file


def utterance(name: str, text: str, speaker: str | None = None) -> Utterance:
    return Utterance(name, AudioRef(f"{name}.wav", 0.0, 1.0), text, speaker)


def test_counts_are_kept_as_they_were(tmp_path: Path) -> None:
    corpus = [utterance("b", "one two three", "ada"), utterance("a", "four")]
    counts = count_all(corpus, {"a": "four five", "b": "one"}, {"kd": "x"}, {"bytes": 3.0})
    assert (counts.ids, counts.groups) == (("a", "b"), ("a", "ada"))
    assert (counts.words, counts.errors, counts.wer) == ((1, 3), (1, 2), 0.75)
    write_counts(tmp_path / "score.json", counts)
    assert read_counts(tmp_path / "score.json") == counts


def test_no_words_no_rate() -> None:
    with pytest.raises(InputError, match="no words"):
        count_all([utterance("a", "")], {"a": "x"}, {}, {})


@pytest.mark.parametrize("text", ["{", "[]", '{"ids": []}'])
def test_another_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="holds no error counts"):
        read_counts(tmp_path / "x.json")
