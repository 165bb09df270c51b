"""The synthesised corpus: the same samples every time, and nothing else overwritten."""

from __future__ import annotations

import ctypes
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile as sf

from kdcache.corpus import check_corpus, load_audio, read_manifest
from kdcache.corpus.synth import SynthSettings, synthesise
from kdcache.corpus.synth.espeak import RATE, require_espeak, speak
from kdcache.corpus.synth.utterance import Spoken, make_utterance
from kdcache.errors import ConfigError, KdcacheError, MissingDependencyError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("espeak")

SMALL = SynthSettings(splits={"train": 9, "test": 3}, voices=6, reverb=0.5)
CLEAN = replace(SMALL, snr=None, reverb=0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, espeak: None) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("synth") / "corpus"
    return folder, synthesise(folder, SMALL, processes=1)


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_speech_does_not_depend_on_what_was_said_before() -> None:
    said = [("en-us+f2", 1), ("en-gb-scotland+m3", 2), ("en-us+f2", 1), ("en-us+f2", 1)]
    first, other, again, more = (speak("a small boat", v, 170, 50, s) for v, s in said)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, more)
    assert first.dtype == np.int16
    assert 0.4 < len(first) / RATE < 2.0
    assert other.shape != first.shape or (other != first).any()


def test_rate_and_pitch_are_heard() -> None:
    slow, fast = (speak("a small boat came", "en-us+m3", rate, 50, 1) for rate in (100, 250))
    assert len(slow) > 1.5 * len(fast)
    high = speak("a small boat came", "en-us+m3", 100, 90, 1)
    assert len(high) != len(slow) or (high != slow).any()


def test_unknown_voice() -> None:
    with pytest.raises(ConfigError, match="no voice 'xx-none'"):
        speak("hello", "xx-none", 170, 50, 1)
    assert len(speak("hello", "en-us", 170, 50, 1))  # and the next is not disturbed


def test_library_in_use_elsewhere_is_refused() -> None:
    import _ctypes

    import espeakng_loader

    held = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        with pytest.raises(KdcacheError, match="already in use in this process"):
            speak("hello", "en-us", 170, 50, 1)
    finally:
        _ctypes.dlclose(held._handle)
    assert require_espeak()


def test_without_espeak_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kdcache\[demo\]'"):
        synthesise(tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_an_utterance_is_a_function_of_its_number() -> None:
    once, again = (make_utterance(SMALL, "train", 4) for _ in range(2))
    np.testing.assert_array_equal(once.samples, again.samples)
    other = make_utterance(SMALL, "test", 4)
    assert (other.text, other.voice) != (once.text, once.voice)


def test_longer_corpora_begin_with_the_shorter_ones() -> None:
    longer = replace(SMALL, splits={"train": 90, "test": 30})
    one, two = (make_utterance(s, "train", 2) for s in (SMALL, longer))
    np.testing.assert_array_equal(one.samples, two.samples)


def test_noise_and_room_leave_text_voice_and_length_alone() -> None:
    noisy, clean = (make_utterance(s, "train", 3) for s in (SMALL, CLEAN))
    assert (noisy.text, noisy.voice) == (clean.text, clean.voice)
    assert len(noisy.samples) == len(clean.samples)
    assert noisy.noise in SMALL.noises
    assert (clean.noise, clean.snr, clean.reverb) == (None, None, False)


def quiet_part(spoken: Spoken) -> float:
    """Level of the silence before the speech, relative to the whole, in dB."""
    samples = spoken.samples / 32768.0
    head, whole = samples[:600], samples
    return float(10 * np.log10((np.mean(head**2) + 1e-12) / np.mean(whole**2)))


def test_noise_is_as_strong_as_asked() -> None:
    loud = replace(CLEAN, snr=(0.0, 0.0), noises=("white",))
    soft = replace(CLEAN, snr=(30.0, 30.0), noises=("white",))
    levels = [quiet_part(make_utterance(s, "train", 1)) for s in (loud, soft, CLEAN)]
    assert levels[0] == pytest.approx(-3.0, abs=0.7)  # half the power is noise
    assert levels[1] == pytest.approx(-30.0, abs=0.7)
    assert levels[2] < -60.0


def test_samples_are_sound() -> None:
    for number in range(4):
        spoken = make_utterance(SMALL, "train", number)
        seconds = len(spoken.samples) / SMALL.sample_rate
        words = len(spoken.text.split())
        assert 0.12 * words < seconds < 0.9 * words + 0.6
        peak = int(np.abs(spoken.samples.astype(int)).max())
        assert 32767 * 10 ** (-12.1 / 20) < peak <= 32767 * 10 ** (-1 / 20) + 1
        assert np.std(spoken.samples) > 300


def test_folder(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["summary.json", "test", "test.jsonl", "train", "train.jsonl"]
    assert json.loads((folder / "summary.json").read_text()) == summary
    train, test = (read_manifest(folder / f"{split}.jsonl") for split in ("train", "test"))
    assert [u.id for u in train] == [f"train-{i:06d}" for i in range(9)]
    assert len(test) == 3
    assert check_corpus([*train, *test]).problems == ()


def test_files_are_16_bit_flac_at_the_rate(made: tuple[Path, dict[str, Any]]) -> None:
    info = sf.info(made[0] / "train" / "train-000000.flac")
    assert (info.format, info.subtype, info.samplerate, info.channels) == (
        "FLAC", "PCM_16", 16_000, 1,
    )  # fmt: skip


def test_manifest_and_files_are_the_utterances(made: tuple[Path, dict[str, Any]]) -> None:
    utterance = read_manifest(made[0] / "test.jsonl")[1]
    spoken = make_utterance(SMALL, "test", 1)
    assert (utterance.text, utterance.speaker) == (spoken.text, spoken.voice)
    samples = load_audio(utterance.audio, 16_000)
    np.testing.assert_array_equal(samples, spoken.samples / np.float32(32768))


def test_summary(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    assert summary["utterances"] == 12
    train = summary["splits"]["train"]
    assert train["utterances"] == sum(train["noise"].values()) == 9
    assert train["peak"] <= 32767 * 10 ** (-1 / 20) + 1
    assert -45 < train["level_db"] < -10
    assert 0 < train["reverberant"] < 9
    assert train["texts_in_earlier_splits"] == 0
    hours = sum(u.duration for u in read_manifest(folder / "train.jsonl")) / 3600
    assert train["hours"] == pytest.approx(hours, abs=1e-4)


def test_two_processes_make_the_same_bytes(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    summary = synthesise(tmp_path / "two", SMALL, processes=2)
    assert summary == made[1]
    assert contents(tmp_path / "two") == contents(made[0])


def test_another_seed_makes_other_samples(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    other = replace(SMALL, seed=8, splits={"train": 2})
    summary = synthesise(tmp_path / "other", other, processes=1)
    assert summary["pcm_sha256"] != made[1]["pcm_sha256"]


def tiny(**changes: Any) -> SynthSettings:
    return replace(CLEAN, **{"splits": {"train": 2}, "kind": "digits", **changes})


def test_the_same_corpus_is_found_again(tmp_path: Path) -> None:
    summary = synthesise(tmp_path, tiny(), processes=1)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert synthesise(tmp_path, tiny(), processes=1) == summary
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == times


def test_other_settings_are_refused_and_overwrite_replaces(tmp_path: Path) -> None:
    synthesise(tmp_path, tiny(), processes=1)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="other settings made; .* or pass --overwrite"):
        synthesise(tmp_path, tiny(splits={"only": 1}), processes=1)
    assert contents(tmp_path) == before
    synthesise(tmp_path, tiny(splits={"only": 1}), processes=1, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["only", "only.jsonl", "summary.json"]


@pytest.mark.parametrize("gone", ["summary.json", "train/train-000001.flac", "train.jsonl"])
def test_an_incomplete_corpus_is_made_whole(tmp_path: Path, gone: str) -> None:
    synthesise(tmp_path, tiny(), processes=1)
    before = contents(tmp_path)
    (tmp_path / gone).unlink()
    synthesise(tmp_path, tiny(), processes=1)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["thesis.tex", "train/notes.txt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_files_are_never_overwritten(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="something else than a synthesised corpus"):
        synthesise(tmp_path, tiny(), processes=1, overwrite=overwrite)
    assert contents(tmp_path) == {name: b"mine"}


def test_impossible_settings_change_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Got 500 voices"):
        synthesise(tmp_path / "out", tiny(voices=500), processes=1)
    assert not (tmp_path / "out").exists()


def test_progress(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    synthesise(
        tmp_path / "p",
        tiny(),
        processes=1,
        on_progress=lambda done, all_: calls.append((done, all_)),
    )
    assert calls == [(1, 2), (2, 2)]
