"""Audio: what is decoded, at which rate, and every way in which it cannot be used."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf

from kdcache.corpus.audio import (
    decode_flac,
    encode_flac,
    load_audio,
    probe,
    read_header,
    resample,
    to_int16,
)
from kdcache.errors import AudioError
from kdcache.types import AudioRef

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.corpus.conftest import WriteAudio


def noise(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20_000, 20_000, count).astype(np.int16)


def test_header(write_audio: WriteAudio) -> None:
    header = read_header(str(write_audio("a.wav", 1.5, 8_000, channels=2)))
    assert (header.frames, header.sample_rate, header.channels) == (12_000, 8_000, 2)
    assert header.duration == 1.5


def test_whole_file_is_float32_mono(write_audio: WriteAudio) -> None:
    samples = load_audio(AudioRef(str(write_audio("a.flac"))), 16_000)
    assert samples.dtype == np.float32
    assert samples.shape == (16_000,)
    assert np.abs(samples).max() == pytest.approx(0.25, abs=1e-3)


def test_offset_and_duration_choose_exactly_those_samples(tmp_path: Path) -> None:
    pcm = noise(16_000)
    sf.write(tmp_path / "a.flac", pcm, 16_000)
    samples = load_audio(AudioRef(str(tmp_path / "a.flac"), 0.25, 0.5), 16_000)
    np.testing.assert_array_equal(samples, pcm[4_000:12_000] / np.float32(32768))


def test_without_duration_to_the_end(write_audio: WriteAudio) -> None:
    assert len(load_audio(AudioRef(str(write_audio("a.wav", 2.0)), 0.5), 16_000)) == 24_000


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = noise(800, 1), noise(800, 2)
    sf.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000)
    samples = load_audio(AudioRef(str(tmp_path / "a.wav")), 16_000)
    expected = (left.astype(np.float32) + right.astype(np.float32)) / 2 / 32768
    np.testing.assert_allclose(samples, expected, atol=1e-7)


@pytest.mark.parametrize(("rate", "new"), [(8_000, 16_000), (44_100, 16_000), (16_000, 8_000)])
def test_resampling_keeps_length_and_tone(write_audio: WriteAudio, rate: int, new: int) -> None:
    samples = load_audio(AudioRef(str(write_audio("a.wav", 1.0, rate))), new)
    assert len(samples) == new
    spectrum = np.abs(np.fft.rfft(samples))
    assert int(spectrum.argmax()) == 440  # one second: bins are Hz


def test_resample_is_deterministic_and_float32() -> None:
    samples = noise(2_205).astype(np.float32)
    once, again = resample(samples, 22_050, 16_000), resample(samples, 22_050, 16_000)
    assert once.dtype == np.float32
    assert once.flags.c_contiguous
    np.testing.assert_array_equal(once, again)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nothing\.wav does not exist; check"):
        load_audio(AudioRef(str(tmp_path / "nothing.wav")), 16_000)


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder, expected an audio file"):
        load_audio(AudioRef(str(tmp_path)), 16_000)


def test_file_of_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(AudioError, match="is an empty file"):
        load_audio(AudioRef(str(tmp_path / "a.wav")), 16_000)


def test_file_that_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not a sound")
    with pytest.raises(AudioError, match="cannot be read as audio") as caught:
        load_audio(AudioRef(str(tmp_path / "a.wav")), 16_000)
    assert "\n" not in caught.value.message


def test_audio_without_samples(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(0, np.int16), 16_000)
    with pytest.raises(AudioError, match="holds no samples"):
        load_audio(AudioRef(str(tmp_path / "a.wav")), 16_000)
    with pytest.raises(AudioError, match="holds no samples"):
        probe(str(tmp_path / "a.wav"))


def test_shorter_than_claimed(write_audio: WriteAudio) -> None:
    path = str(write_audio("a.wav", 1.0))
    with pytest.raises(AudioError, match=r"truncated: 0\.500 s .* from 0\.500 s, expected 0\.600"):
        load_audio(AudioRef(path, 0.5, 0.6), 16_000)


def test_rounding_of_a_manifest_is_no_truncation(write_audio: WriteAudio) -> None:
    path = str(write_audio("a.wav", 1.0))
    assert len(load_audio(AudioRef(path, 0.0, 1.01), 16_000)) == 16_000


@pytest.mark.parametrize("offset", [1.0, 7.5, -0.5])
def test_offset_outside_the_file(write_audio: WriteAudio, offset: float) -> None:
    with pytest.raises(AudioError, match=r"1\.000 s long, and the utterance begins at"):
        load_audio(AudioRef(str(write_audio("a.wav", 1.0)), offset, 0.1), 16_000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(tmp_path: Path, value: float) -> None:
    samples = np.zeros(1_000, np.float32)
    samples[500] = value
    sf.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        load_audio(AudioRef(str(tmp_path / "a.wav")), 16_000)


def test_flac_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encode_flac(noise(64_000), 16_000)[:60_000])
    assert read_header(str(path)).duration == 4.0  # the header still promises all of it
    with pytest.raises(AudioError, match="truncated: its header promises 4"):
        probe(str(path))
    with pytest.raises(AudioError):
        load_audio(AudioRef(str(path), 0.0, 4.0), 16_000)


def test_cut_flac_without_a_claim_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(encode_flac(noise(64_000), 16_000)[:60_000])
    with pytest.raises(AudioError):
        load_audio(AudioRef(str(path)), 16_000)


def test_probe_of_a_whole_file(write_audio: WriteAudio) -> None:
    for name in ("a.flac", "a.wav", "a.ogg"):
        assert probe(str(write_audio(name, 0.5))).duration == pytest.approx(0.5, abs=0.01)


def test_flac_round_trip_is_lossless() -> None:
    samples = noise(5_000)
    data = encode_flac(samples, 16_000)
    assert data[:4] == b"fLaC"
    decoded, rate = decode_flac(data)
    assert rate == 16_000
    assert decoded.dtype == np.int16
    np.testing.assert_array_equal(decoded, samples)
    assert encode_flac(samples, 16_000) == data


@pytest.mark.parametrize("samples", [np.zeros(9, np.float32), np.zeros((9, 2), np.int16)])
def test_encoding_something_else_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(TypeError, match="expected int16"):
        encode_flac(samples, 16_000)


def test_decoding_damaged_bytes() -> None:
    with pytest.raises(AudioError, match="11 bytes could not be decoded as FLAC") as caught:
        decode_flac(b"not a sound")
    assert "0x" not in str(caught.value)  # the same damage is told in the same words


def test_to_int16_rounds_and_clips() -> None:
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0])
    expected = [0, 16384, -16384, 32767, -32767, 32767, -32768]
    assert to_int16(samples).tolist() == expected
    assert to_int16(samples).dtype == np.int16


def test_url_is_read_through_fsspec(write_audio: WriteAudio) -> None:
    path = write_audio("a.flac", 0.5)
    assert len(load_audio(AudioRef(f"file://{path}"), 16_000)) == 8_000
    assert read_header(f"file://{path}").duration == 0.5


@pytest.mark.parametrize("url", ["file:///no/such/file.flac", "nonsense://bucket/a.flac"])
def test_url_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(AudioError, match=r"cannot be (opened|read)") as caught:
        load_audio(AudioRef(url), 16_000)
    assert url in caught.value.message


def test_errors_cross_process_borders(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        read_header(str(tmp_path / "nothing.wav"))
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


@pytest.mark.parametrize("duration", [0.0, -1.0])
def test_durations_of_nothing(write_audio: WriteAudio, duration: float) -> None:
    with pytest.raises(AudioError, match="expected more than 0"):
        load_audio(AudioRef(str(write_audio("a.wav", 1.0)), 0.0, duration), 16_000)


@pytest.mark.parametrize("claim", [86_400.0, 1e300])
def test_claims_of_any_size_are_refused_without_memory_for_them(
    write_audio: WriteAudio, claim: float
) -> None:
    path = str(write_audio("a.wav", 1.0))
    with pytest.raises(AudioError, match="truncated"):
        load_audio(AudioRef(path, 0.0, claim), 16_000)
    with pytest.raises(AudioError, match="begins at"):
        load_audio(AudioRef(path, claim, 1.0), 16_000)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="device or a pipe"):
        load_audio(AudioRef(str(tmp_path / "a.wav")), 16_000)


def test_rates_that_no_speech_has(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(100), 999)
    with pytest.raises(AudioError, match="999 Hz"):
        load_audio(AudioRef(str(tmp_path / "a.wav")), 16_000)


@pytest.mark.parametrize("count", [None, 0.5, 1.0])
def test_blocks_are_put_together(
    write_audio: WriteAudio, monkeypatch: pytest.MonkeyPatch, count: float | None
) -> None:
    ref = AudioRef(str(write_audio("a.wav", 1.0)), 0.0, count)
    whole = load_audio(ref, 16_000)
    monkeypatch.setattr("kdcache.corpus.audio._BLOCK_FRAMES", 1000)
    assert np.array_equal(load_audio(ref, 16_000), whole)
