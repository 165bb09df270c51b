"""Lhotse cuts, written by lhotse itself where it is installed."""

from __future__ import annotations

import gzip
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.corpus.importers import import_corpus
from kdcache.corpus.importers.lhotse_cuts import read_lhotse
from kdcache.errors import ManifestError, MissingDependencyError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.corpus.conftest import WriteAudio

lhotse = pytest.importorskip("lhotse", reason="lhotse is not installed: 'kdcache[lhotse]'")


def supervision(name: str, start: float, duration: float, **keys: Any) -> Any:
    return lhotse.SupervisionSegment(name, "rec", start, duration, **keys)


@pytest.fixture
def recording(write_audio: WriteAudio) -> Any:
    return lhotse.Recording.from_file(write_audio("rec.wav", 4.0), recording_id="rec")


def cut(recording: Any, *supervisions: Any, name: str = "cut", **keys: Any) -> Any:
    values = {"start": 0.5, "duration": 3.0, "channel": 0, **keys}
    return lhotse.MonoCut(name, recording=recording, supervisions=list(supervisions), **values)


def save(folder: Path, *cuts: Any, name: str = "cuts.jsonl.gz") -> Path:
    lhotse.CutSet.from_cuts(cuts).to_file(folder / name)
    return folder / name


def rewrite(path: Path, **changes: Any) -> Path:
    """Change the recording of a saved cut to what lhotse would not make by itself."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    data["recording"].update(changes)
    path.write_bytes(gzip.compress(json.dumps(data).encode()))
    return path


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_one_supervision_gives_the_cut(tmp_path: Path, recording: Any, name: str) -> None:
    one = cut(recording, supervision("s", 0.0, 3.0, text="hello", speaker="ann"))
    path = save(tmp_path, one, name=name)
    expected = Utterance("cut", AudioRef(str(tmp_path / "rec.wav"), 0.5, 3.0), "hello", "ann")
    assert read_lhotse(path) == [expected]
    assert import_corpus(path) == [expected]


def test_several_supervisions_give_an_utterance_each(tmp_path: Path, recording: Any) -> None:
    parts = [supervision("s1", 0.0, 1.0, text="a"), supervision("s2", 1.5, 1.25, text="b")]
    first, second = read_lhotse(save(tmp_path, cut(recording, *parts)))
    assert first == Utterance("s1", AudioRef(str(tmp_path / "rec.wav"), 0.5, 1.0), "a")
    assert second == Utterance("s2", AudioRef(str(tmp_path / "rec.wav"), 2.0, 1.25), "b")


def test_cut_without_supervision_has_no_text(tmp_path: Path, recording: Any) -> None:
    (utterance,) = read_lhotse(save(tmp_path, cut(recording)))
    assert (utterance.id, utterance.text, utterance.speaker) == ("cut", "", None)


def test_multi_cut_of_all_channels(tmp_path: Path, write_audio: WriteAudio) -> None:
    stereo = lhotse.Recording.from_file(write_audio("st.wav", 2.0, channels=2), recording_id="st")
    both = lhotse.MultiCut("both", 0.0, 2.0, channel=[0, 1], recording=stereo)
    assert read_lhotse(save(tmp_path, both))[0].audio.duration == 2.0
    one = lhotse.MonoCut("one", 0.0, 2.0, channel=1, recording=stereo)
    with pytest.raises(ManifestError, match=r"'one' takes channels \[1\] of \[0, 1\]"):
        read_lhotse(save(tmp_path, one))


def test_commands_are_refused_and_not_run(tmp_path: Path, recording: Any) -> None:
    command = f"touch {tmp_path / 'executed'}"
    source = {"type": "command", "channels": [0], "source": command}
    path = rewrite(save(tmp_path, cut(recording)), sources=[source])
    with pytest.raises(ManifestError, match="line 1: the audio of cut 'cut' is of type 'command'"):
        read_lhotse(path)
    assert not (tmp_path / "executed").exists()


def test_several_audio_files_are_refused(tmp_path: Path, recording: Any) -> None:
    sources = [{"type": "file", "channels": [c], "source": f"{c}.wav"} for c in (0, 1)]
    path = rewrite(save(tmp_path, cut(recording)), sources=sources)
    with pytest.raises(ManifestError, match="'cut' has several audio files"):
        read_lhotse(path)


def test_urls_stay_urls(tmp_path: Path, recording: Any) -> None:
    source = {"type": "url", "channels": [0], "source": "s3://bucket/a.flac"}
    path = rewrite(save(tmp_path, cut(recording)), sources=[source])
    assert read_lhotse(path)[0].audio.path == "s3://bucket/a.flac"


def test_relative_paths_are_found_beside_the_manifest(tmp_path: Path, recording: Any) -> None:
    source = {"type": "file", "channels": [0], "source": "rec.wav"}
    path = rewrite(save(tmp_path, cut(recording)), sources=[source])
    assert read_lhotse(path)[0].audio.path == str(tmp_path / "rec.wav")


def test_transforms_that_change_the_sound_are_refused(tmp_path: Path, recording: Any) -> None:
    fast = cut(recording).perturb_speed(1.1)
    with pytest.raises(ManifestError, match=r"transforms its audio \(Speed\)"):
        read_lhotse(save(tmp_path, fast))


def test_resampling_is_no_such_transform(tmp_path: Path, recording: Any) -> None:
    assert read_lhotse(save(tmp_path, cut(recording).resample(8_000)))[0].audio.offset == 0.5


def test_mixed_cuts_are_refused(tmp_path: Path, recording: Any) -> None:
    mixed = cut(recording).append(cut(recording, name="other"))
    with pytest.raises(ManifestError, match="line 1 is a MixedCut; expected MonoCut"):
        read_lhotse(save(tmp_path, mixed))


def test_cut_of_features_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(
        '{"id": "c", "start": 0, "duration": 1, "channel": 0, "supervisions": [], '
        '"type": "MonoCut"}\n'
    )
    with pytest.raises(ManifestError, match="'c' has no recording"):
        read_lhotse(tmp_path / "c.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{broken\n", "line 1 is not JSON"),
        ('{"id": "x"}\n', "line 1 is no Lhotse cut"),
        ("3\n", "line 1 is no Lhotse cut"),
        ('{"type": "MonoCut", "id": "x"}\n', "line 1 is no complete Lhotse cut"),
        ('{"type": "MonoCut", "id": "x", "recording": 3}\n', "line 1 is no complete Lhotse cut"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.jsonl").write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_lhotse(tmp_path / "c.jsonl")


def test_truncated_gzip(tmp_path: Path, recording: Any) -> None:
    path = save(tmp_path, cut(recording))
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ManifestError, match=r"cuts\.jsonl\.gz"):
        read_lhotse(path)


def test_without_lhotse_its_extra_is_named(
    tmp_path: Path, recording: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, cut(recording))
    monkeypatch.setitem(sys.modules, "lhotse.serialization", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kdcache\[lhotse\]'"):
        read_lhotse(path)
