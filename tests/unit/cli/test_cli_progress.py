"""Progress: lines where nobody watches, a bar where somebody does."""

from __future__ import annotations

import io
import sys

import pytest

from kdcache.cli.progress import _BARS, EVERY, _Lines, _span, progress, stages


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_line_every_so_often(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines("Verifying", 4, "files", clock)
    for done in range(1, 5):
        clock.now += EVERY / 2
        lines.update(done)
    lines.finish()
    assert capsys.readouterr().err.splitlines() == [
        "Verifying: 2 of 4 files, 0.133/s, 15 s left",
        "Verifying: 4 of 4 files",
    ]


def test_the_rate_leaves_out_what_was_done_before(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _Lines("Training", 1000, "steps", clock)
    lines.update(800)
    clock.now += 2 * EVERY
    lines.update(803, note="loss 1.5")
    assert capsys.readouterr().err == "Training: 803 of 1000 steps, 0.1/s, 33 min left, loss 1.5\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (101, "2 min"), (19200, "5 h 20 min")]
)
def test_spans_of_time(seconds: float, text: str) -> None:
    assert _span(seconds) == text


def test_the_end_is_told_even_if_it_came_at_once(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _Lines("Verifying", None, "files", clock)
    lines.update(3, 3)
    lines.finish()
    assert capsys.readouterr().err == "Verifying: 3 of 3 files\n"


def test_nothing_done_is_nothing_told(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    _Lines("Verifying", 3, "files", clock).finish()
    assert capsys.readouterr().err == ""


def test_the_last_total_and_note_stand(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines("Extracting", None, "", clock)
    lines.update(1, 10, note="2 actors")
    lines.update(2)
    lines.finish()
    assert capsys.readouterr().err == "Extracting: 2 of 10, 2 actors\n"


def test_an_unknown_total(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines("Reading", None, "rows", clock)
    lines.update(1234567)
    lines.finish()
    assert capsys.readouterr().err == "Reading: 1234567 rows\n"


def test_progress_is_plain_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Verifying", 2, "files") as shown:
        shown.update(2)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Verifying: 2 of 2 files\n")


def test_a_failure_is_told_by_its_own_message_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress("Verifying", 2, "files") as shown:
            shown.update(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("no_color", [True, False])
def test_a_terminal_gets_a_bar(no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    with progress("Extracting", 4, "utterances") as shown:
        shown.update(3, note="2 actors")
        shown.update(4)
    text = terminal.getvalue()
    assert "Extracting" in text
    assert "4/4" in text
    assert "2 actors" in text
    assert ("\x1b[38;5;" in text or "\x1b[32m" in text) is not no_color


def test_one_stage_ends_where_the_next_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with stages() as shown:
        shown.update("hearing", "utterances", 1, 2)
        shown.update("hearing", "utterances", 2, 2)
        shown.update("extracting", "utterances", 3, 9, "so far")
    assert capsys.readouterr().err.splitlines() == [
        "hearing: 2 of 2 utterances",
        "extracting: 3 of 9 utterances, so far",
    ]


def test_stages_on_a_terminal_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rich's bars only one may be shown at a time."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with stages() as shown:
        for label in ("hearing", "choosing", "hearing"):
            shown.update(label, "things", 1, 1)
    assert "choosing" in terminal.getvalue()


def test_bars_that_are_open_at_a_time_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    first, second = progress("Training a", 9), progress("Training b", 9)
    shown = first.__enter__(), second.__enter__()
    shown[0].update(9)
    first.__exit__(None, None, None)
    shown[1].update(5)
    second.__exit__(None, None, None)
    text = terminal.getvalue()
    assert "9/9" in text
    assert "5/9" in text
    with progress("Training c", 3) as third:
        third.update(3)
    assert "Training a" not in terminal.getvalue()[len(text) :]


def test_bars_that_are_over_make_room_for_those_that_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("Extracting", 9):
        for number in range(3):
            with progress(f"Training {number}", 1) as shown:
                shown.update(1)
        assert _BARS._shown is not None
        assert [task.description for task in _BARS._shown.tasks] == ["Extracting"]
    assert _BARS._shown is None
