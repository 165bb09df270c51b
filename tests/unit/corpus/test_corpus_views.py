"""Views: the same utterance faster or slower, as an utterance of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from kdcache.corpus import check_corpus, load_audio, read_manifest, write_manifest
from kdcache.corpus.views import iter_views, parse_view, view_of
from kdcache.errors import ConfigError, ManifestError
from kdcache.extract.plan import make_unit
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000


@pytest.fixture
def recorded(tmp_path: Path) -> Utterance:
    """Two seconds of 400 Hz, of which the utterance is the second one."""
    samples = 0.5 * np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE)
    sf.write(tmp_path / "tone.wav", samples, RATE, subtype="FLOAT")
    return Utterance("tone", AudioRef(str(tmp_path / "tone.wav"), 1.0, 1.0), "a tone")


def pitch(samples: np.ndarray) -> float:
    inner = samples[1000:-1000]  # resampling rings at the ends
    padded = np.abs(np.fft.rfft(inner * np.hanning(len(inner)), 1 << 20))
    return float(padded.argmax() * RATE / (1 << 20))


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 2.0])
def test_tempo_and_pitch_change_alike(recorded: Utterance, speed: float) -> None:
    view = view_of(recorded, speed)
    samples = load_audio(view.audio, RATE)
    assert len(samples) / RATE == pytest.approx(1 / speed, abs=1e-3)
    assert view.duration == pytest.approx(1 / speed)
    assert pitch(samples) == pytest.approx(400 * speed, abs=1.0)


def test_at_its_own_speed_nothing_changes(recorded: Utterance) -> None:
    assert view_of(recorded, 1.0) is recorded
    assert recorded.duration == 1.0


def test_another_rate_and_another_speed_at_once(recorded: Utterance) -> None:
    """8 kHz at 0.8 of the speed is one resampling, of the right length."""
    samples = load_audio(view_of(recorded, 0.8).audio, 8_000)
    assert len(samples) == pytest.approx(10_000, abs=2)


def test_views_survive_the_manifest(recorded: Utterance, tmp_path: Path) -> None:
    views = list(iter_views([recorded], [1.0, 0.9, 1.1]))
    write_manifest(tmp_path / "views.jsonl", views)
    assert read_manifest(tmp_path / "views.jsonl") == views
    assert [view.id for view in views] == ["tone", "tone-sp0.9", "tone-sp1.1"]
    rows = [json.loads(line) for line in (tmp_path / "views.jsonl").read_text().splitlines()]
    assert [row.get("speed") for row in rows] == [None, 0.9, 1.1]
    assert {row["duration"] for row in rows} == {1.0}
    checked = check_corpus(views)
    assert checked.problems == ()
    assert checked.seconds == pytest.approx(1 + 1 / 0.9 + 1 / 1.1)


@given(name=st.text(min_size=1), speed=st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.05, 1.1, 2.0]))
def test_the_id_says_which_view_it_is(name: str, speed: float) -> None:
    view = view_of(Utterance(name, AudioRef("x.wav")), speed)
    found = parse_view(view.id)
    assert found == (name, speed) if "\n" not in name else found in {None, (name, speed)}


@pytest.mark.parametrize("name", ["a", "a-sp", "-sp0.9", "a-sp9", "a-sp0.0", "a-sp0.9-x", "a-spx"])
def test_other_ids_are_no_views(name: str) -> None:
    assert parse_view(name) is None


@pytest.mark.parametrize("speed", [0.0, -1.0, 9.0, float("nan")])
def test_impossible_speeds_are_refused(recorded: Utterance, speed: float) -> None:
    with pytest.raises(ConfigError, match=r"speed of a view is .*; expected 0\.25 to 4"):
        view_of(recorded, speed)


@pytest.mark.parametrize("speed", ["fast", True, None, 0, 7])
def test_a_manifests_impossible_speeds_name_their_line(tmp_path: Path, speed: object) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({"id": "a", "audio_filepath": "a.wav", "speed": speed}) + "\n")
    with pytest.raises(ManifestError, match=r"line 1: 'speed' is .*expected a number from 0\.25"):
        read_manifest(file)


def test_a_view_is_other_work_and_what_was_planned_before_keeps_its_name() -> None:
    plain = Utterance("a", AudioRef("a.wav", 0.0, 1.0), "x")
    before = "1e7073ea7c02b972b66ebd8bd7951d0cf43bfc80ccb56fbf65f07b18f4d52f5b"
    assert make_unit("spec", [(plain,)]).key == before
    fast = Utterance("a", AudioRef("a.wav", 0.0, 1.0, 1.1), "x")
    assert make_unit("spec", [(fast,)]).key != before
