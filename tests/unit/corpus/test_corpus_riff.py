"""WAV files that hold less than their header promises."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from kdcache.corpus.audio import load_audio, probe
from kdcache.corpus.riff import missing_seconds
from kdcache.errors import AudioError
from kdcache.types import AudioRef

if TYPE_CHECKING:
    from pathlib import Path

RATE = 8000
SUBTYPES = ("PCM_16", "PCM_24", "FLOAT", "PCM_U8", "ULAW")
WIDTHS = dict(zip(SUBTYPES, (2, 3, 4, 1, 1), strict=True))


def wav(samples: int, subtype: str = "PCM_16", container: str = "WAV") -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(3).normal(0, 0.1, samples)
    sf.write(file, noise, RATE, format=container, subtype=subtype)
    return file.getvalue()


def missing(raw: bytes) -> float:
    return missing_seconds(io.BytesIO(raw))


def promising(raw: bytes, size: int) -> bytes:
    """The same with another number of bytes of samples in its header."""
    place = raw.index(b"data") + 4
    return raw[:place] + struct.pack("<I", size) + raw[place + 4 :]


@given(st.sampled_from(SUBTYPES), st.integers(1, 400), st.integers(0, 400))
def test_what_is_cut_off_is_told_in_seconds(subtype: str, samples: int, cut: int) -> None:
    # A chunk of an odd number of bytes is followed by one more, which is no sample.
    whole = wav(2 * samples, subtype)
    cut = min(cut, samples) * WIDTHS[subtype]
    body = whole[: whole.index(b"data") + 8 + 2 * samples * WIDTHS[subtype]]
    assert missing(whole) == 0
    assert missing(body[: len(body) - cut]) == pytest.approx(cut / WIDTHS[subtype] / RATE)


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0xFFFF_FFDB, 0x7FFF_FFFF, 0x7FFF_F000])
def test_what_was_written_into_a_pipe_promises_nothing(size: int) -> None:
    assert missing(promising(wav(400), size)) == 0


def test_a_day_is_a_promise() -> None:
    claimed = 86_400 * RATE * 2
    assert missing(promising(wav(400), claimed)) == pytest.approx(86_400 - 400 / RATE)


def test_chunks_before_the_samples_are_passed_over() -> None:
    raw = wav(400)
    more = b"LIST" + struct.pack("<I", 5) + b"INFO?\0"
    place = raw.index(b"data")
    assert missing(raw[:place] + more + raw[place:]) == 0
    assert missing(raw[:place] + more + raw[place:-400]) == pytest.approx(200 / RATE)


@pytest.mark.parametrize("container", ["FLAC", "AIFF", "OGG", "RF64"])
def test_other_formats_are_as_good_as_whole(container: str) -> None:
    subtype = "VORBIS" if container == "OGG" else "PCM_16"
    assert missing(wav(400, subtype, container)[:300]) == 0


@given(st.binary(max_size=60), st.sampled_from([b"", b"fmt ", b"data"]))
def test_nonsense_is_no_error(tail: bytes, name: bytes) -> None:
    assert missing(b"RIFF\0\0\0\0WAVE" + name + tail) >= 0


def test_half_a_file_is_no_utterance(tmp_path: Path) -> None:
    """Unless the manifest says what of it is one, and that is there."""
    path = tmp_path / "half.wav"
    path.write_bytes(wav(8000)[: 44 + 8000])
    with pytest.raises(AudioError, match=r"truncated: its header promises 0\.500 s more"):
        load_audio(AudioRef(str(path), 0.0, None), RATE)
    with pytest.raises(AudioError, match="truncated"):
        probe(str(path))
    assert len(load_audio(AudioRef(str(path), 0.1, 0.3), RATE)) == 2400


def test_a_few_samples_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    path.write_bytes(wav(8000)[:-100])
    assert len(load_audio(AudioRef(str(path), 0.0, None), RATE)) == 7950
