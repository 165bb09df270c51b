"""Conditions on utterances: what they find, in blocks and through an index, and what is refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.errors import ConfigError, InputError
from kdcache.inspect import fields as fields_module
from kdcache.inspect.fields import Fields
from kdcache.inspect.select import matching_rows, select
from kdcache.inspect.where import LONGEST, parse_where
from kdcache.store import compact, open_cache

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Cache


def found(cache: Cache, where: str) -> list[int]:
    return [int(row) for rows in matching_rows(cache, where) for row in rows]


CONDITIONS = [
    ("duration > 10", [10, 11]),
    ("duration > 10 and kl_lattice > 0.005", [11]),
    ("3 < duration <= 5", [3, 4]),
    ("not duration > 2", [0, 1]),
    ("duration < 2 or frames == 50", [0, 5]),
    ('speaker == "bob"', [2, 6, 10]),
    ('speaker != "bob"', [0, 3, 4, 7, 8, 11]),
    ("speaker is None", [1, 5, 9]),
    ("speaker is not None and duration < 5", [0, 2, 3]),
    ('speaker in ("bob", "eve")', [2, 6, 10]),
    ('speaker not in ["bob"]', [0, 3, 4, 7, 8, 11]),
    ('"u1" in id', [10, 11]),
    ('"1" not in id', [0, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("labels in (1, 3)", [0, 2]),
    ("labels == duration and labels < 2", [0]),
    ("kl is None", [3]),
    ("kl == 0", [0]),
    ("lattice.kl_mean > 0.0105", [7]),
    ("fidelity.lattice.kl_mean > 0.0105", [7]),
    ("kl_mean > 0.0105", [7]),
    ("kl_encoder_logits < 1 and duration < 3", [0, 1]),
    ("frames / duration > 9.1", [11]),
    ("-duration < -11.5", [11]),
    ("duration * 2 - 1 + 1 == 8", [3]),
    ("frames / 0 > 1 and duration < 3", [1]),
    ("1 < 2", list(range(12))),
    ("2 < 1", []),
    (' unit >= "b" and unit < "c" and duration < 7 ', [5]),
]


@pytest.mark.parametrize(("where", "rows"), CONDITIONS)
def test_what_a_condition_finds(sampled: Cache, where: str, rows: list[int]) -> None:
    assert found(sampled, where) == rows


def test_blocks_and_an_index_change_nothing(
    sampled: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(sampled.path, tmp_path / "indexed")
    compact(path)
    monkeypatch.setattr(fields_module, "BLOCK", 5)
    indexed = open_cache(path)
    for where, rows in CONDITIONS:
        assert found(indexed, where) == rows, where


@given(st.floats(-1, 14), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_comparisons_are_python_s(limit: float, sign: str) -> None:
    import operator

    import pyarrow as pa

    signs = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
    values = [1.0, 2.0, limit, 12.5]
    where = parse_where(f"duration {sign} {limit!r}", Fields(_NoCache()))  # type: ignore[arg-type]
    kept = pa.table({"duration": values}).filter(where.expression)["duration"].to_pylist()
    assert kept == [v for v in values if getattr(operator, signs[sign])(v, limit)]


class _NoCache:
    """As much of a cache as names of fields need."""

    catalogue_names: tuple[str, ...] = ()
    location = "nowhere"
    spec: Any = type("Spec", (), {"targets": ()})


REFUSED = [
    ("", "no condition"),
    ("duration >", "no condition"),
    ("duration > 20 and", "no condition"),
    ("duration", "'duration': expected a condition, got a number"),
    ("speaker > 3", "'3': expected a text, got a number"),
    ("duration > '3'", "expected a number, got a text"),
    ("duration > speaker", "'speaker': expected a number, got a text"),
    ("duratoin > 3", "Did you mean 'duration'?"),
    ("kl_latice > 3", "Did you mean 'kl_lattice'?"),
    ("duration and 3 < 4", "'duration': expected a condition"),
    ("not speaker", "'speaker': expected a condition"),
    ("speaker + 1 > 3", "'speaker': expected a number"),
    ("(1 < 2) < 3", "expected a number or a text"),
    ("duration is 3", "'is' to be followed by None"),
    ("duration in (speaker,)", "expected a number as it is"),
    ("speaker in (1, 2)", "expected a text in quotes"),
    ("duration > True", "does not understand 'True'"),
    ("duration > 9" + "9" * 400, "no condition"),
    ("__import__('os').system('true')", "does not understand \"__import__('os').system('true')\""),
    ("open('x').read == 3", "expected the name of a field"),
    ("[x for x in (1,)] == 3", "does not understand"),
    ("(lambda: 1)() > 0", "does not understand"),
    ("duration ** 9 ** 9 ** 9 > 3", "does not understand"),
    ("f'{duration}' == 'x'", "does not understand"),
    ("(duration := 3) > 2", "does not understand"),
    ("id.__class__ == 3", "no field 'id.__class__'"),
    ("duration > 3; id", "no condition"),
    ("x" * (LONGEST + 1), f"{LONGEST:,} characters"),
    ("(" * 900 + "1<2" + ")" * 900, "no condition"),
    ("-" * 1500 + "1 < 2", "no condition"),
    ("duration > 1\0", "no condition"),
]


@pytest.mark.parametrize(("where", "said"), REFUSED)
def test_what_is_refused_is_told_in_one_sentence(sampled: Cache, where: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        matching_rows(sampled, where)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@given(st.text(max_size=40) | st.text(alphabet="duration<>=()[]'\" .0123andornot_", max_size=40))
def test_any_text_is_a_condition_or_an_input_error(text: str) -> None:
    try:
        parse_where(text, Fields(_NoCache()))  # type: ignore[arg-type]
    except InputError:
        return


# Order


def test_the_largest_come_first(sampled: Cache) -> None:
    rows = select(sampled, sort="kl", top=3).rows_N.tolist()
    assert rows == [7, 2, 9]  # 11, 10 and 9 thousandths


def test_ascending_and_absent_values_last(sampled: Cache) -> None:
    whole = select(sampled, sort="kl", ascending=True).rows_N.tolist()
    assert whole[:3] == [0, 5, 10]
    assert whole[-1] == 3
    assert select(sampled, sort="kl").rows_N.tolist()[-1] == 3


def test_equal_ones_are_in_order_of_id(sampled: Cache) -> None:
    rows = select(sampled, sort="kl_encoder_logits", top=4).rows_N.tolist()
    assert rows == [0, 1, 2, 4]


def test_counts_are_of_all_that_was_found(sampled: Cache) -> None:
    selection = select(sampled, "duration > 10", top=1)
    assert (selection.found, selection.rows_N.tolist()) == (2, [10])
    assert selection.hours == pytest.approx(23 / 3600)


@given(st.data())
def test_blocks_keep_the_best(data: st.DataObject) -> None:
    import numpy as np

    from kdcache.inspect.select import Best

    numbers = st.floats(allow_nan=True) | st.sampled_from([0.0, 1.0])
    keys = np.array(data.draw(st.lists(numbers, max_size=60)), float)
    top = data.draw(st.integers(0, 5) | st.none())
    ascending = data.draw(st.booleans())
    best = Best(top, ascending)
    for start in range(0, len(keys), 7):
        part = keys[start : start + 7]
        best.add(start + np.arange(len(part)), part)
    expected = np.argsort(keys if ascending else -keys, kind="stable")[:top]
    assert best.rows().tolist() == expected.tolist()


def test_a_text_is_no_order(sampled: Cache) -> None:
    with pytest.raises(ConfigError, match="a field of numbers"):
        select(sampled, sort="text")
