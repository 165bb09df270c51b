"""What a run says of itself."""

from __future__ import annotations

from kdcache.corpus.tolerant import BadLine
from kdcache.extract.report import ExtractReport, by_code


def report(**changes):
    values = {
        "cache": "runs/cache",
        "utterances": 10,
        "done": 6,
        "skipped": 4,
        "failed": {},
        "left": (),
        "messages": {},
        "hours": 1.5,
        "bytes": 2_500_000,
        "seconds": 12.34,
        "content_digest": "d1",
    }
    return ExtractReport(**{**values, **changes})


def test_a_complete_run():
    made = report()
    assert made.complete
    assert made.lines() == [
        "runs/cache: 10 of 10 utterances, 1.50 h, 2.5 MB",
        "this run: 6 done in 12.3 s; 4 were there",
        "content digest d1",
    ]


def test_failures_are_told_by_code_with_ids_and_a_reason():
    failed = {"audio": ("a", "b", "c", "d"), "crash": ("e",)}
    messages = {"a": "a.wav does not exist.", "b": "b", "c": "c", "d": "d", "e": "killed"}
    made = report(done=1, failed=failed, messages=messages)
    assert not made.complete
    assert made.absent == 5
    assert made.lines()[2:7] == [
        "failed (audio): 4: 'a', 'b', 'c' and 1 more",
        "  a.wav does not exist.",
        "failed (crash): 1: 'e'",
        "  killed",
        "each of them: kdcache status runs/cache --failures",
    ]
    assert made.to_dict()["failed"] == {"audio": ["a", "b", "c", "d"], "crash": ["e"]}


def test_a_stopped_run_says_how_much_is_left():
    made = report(done=4, left=("x", "y"), stopped_by=2)
    assert not made.complete
    assert "not reached: 2" in made.lines()


def test_unusable_lines_leave_the_cache_incomplete():
    lines = tuple(BadLine(f"m, line {i}", f"m, line {i} is not JSON.") for i in range(5))
    made = report(bad_lines=lines)
    assert not made.complete
    assert made.absent == 0
    assert made.lines()[2:7] == [
        "unusable lines: 5",
        "  m, line 0 is not JSON.",
        "  m, line 1 is not JSON.",
        "  m, line 2 is not JSON.",
        "  … and 2 more",
    ]
    assert made.to_dict()["bad_lines"][4] == {"where": "m, line 4", "why": "m, line 4 is not JSON."}
    assert "  … and" not in "\n".join(report(bad_lines=lines[:3]).lines())


def test_codes_come_with_the_most_frequent_first():
    failed = {"a": ("crash", ""), "b": ("audio", ""), "c": ("audio", ""), "d": ("nan", "")}
    assert list(by_code(failed).items()) == [
        ("audio", ("b", "c")),
        ("crash", ("a",)),
        ("nan", ("d",)),
    ]
