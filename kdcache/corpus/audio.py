"""Audio in and out: decode a stretch of a file, resample it, and keep PCM as FLAC in memory.

One decoder (libsndfile, through soundfile) and one resampler (soxr) for every teacher and
student, so that both always hear the same samples. What cannot be used is an
:class:`~kdcache.errors.AudioError` in one sentence: such an utterance is recorded and the
others go on.
"""

from __future__ import annotations

import io
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile as sf
import soxr

from kdcache.corpus.riff import missing_seconds
from kdcache.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kdcache.types import AudioRef

TRUNCATION_TOLERANCE = 0.02
"""Seconds that may be missing at the end before audio counts as truncated: manifests round."""

_TAIL = 160  # samples at the end that a probe decodes

_LOWEST_RATE = 1000
"""Hz. A header that claims less is broken; at 1 Hz a small file would become hours of samples."""

_BLOCK_FRAMES = 1 << 24
"""Frames that are decoded at once: a header may promise any number, and memory is taken for what
is there."""


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """What a file says of itself before any sample is decoded.

    Attributes:
        frames: samples per channel.
        sample_rate: Hz.
        channels: number of channels.
    """

    frames: int
    sample_rate: int
    channels: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sample_rate


def read_header(path: str) -> AudioHeader:
    """Read the header of an audio file; no sample is decoded.

    Raises:
        AudioError: the file is missing or is no audio.
    """
    with _opened(path) as file:
        return AudioHeader(file.frames, file.samplerate, file.channels)


def probe(path: str) -> AudioHeader:
    """Read the header, and decode the last samples that it promises.

    A file that was cut short keeps a header that promises all of it; its end tells.

    Raises:
        AudioError: the file is missing, is no audio, is empty or is truncated.
    """
    with _opened(path) as file:
        header = AudioHeader(file.frames, file.samplerate, file.channels)
        tail = min(header.frames, _TAIL)
        if not header.frames:
            raise AudioError(f"{path} holds no samples.")
        if _frames_at_end(file, tail) < tail:
            raise AudioError(
                f"{path} is truncated: its header promises {header.duration:.3f} s, "
                "and its end cannot be decoded."
            )
        _refuse_cut(path)
    return header


def load_audio(ref: AudioRef, sample_rate: int) -> np.ndarray:
    """Decode the samples that ``ref`` points at.

    Args:
        ref: path (or URL), offset and duration in seconds, and speed.
        sample_rate: Hz of the result.

    Returns:
        float32 mono samples in about [−1, 1], shape (N,): the mean of the channels.

    Raises:
        AudioError: missing, unreadable, empty or non-finite audio, or more than
            ``TRUNCATION_TOLERANCE`` seconds fewer than ``ref.duration`` claims or, without one,
            than a WAV file's header does.
    """
    with _opened(ref.path) as file:
        samples_NC, rate = _read_stretch(file, ref), file.samplerate
        if ref.duration is None:
            _refuse_cut(ref.path)
    _refuse_unusable(samples_NC, rate, ref)
    mono_N = samples_NC.mean(axis=1, dtype=np.float32)
    heard = rate * ref.speed
    return mono_N if heard == sample_rate else resample(mono_N, heard, sample_rate)


def resample(samples: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """float32 samples of shape (N,) at another rate, by soxr at high quality."""
    return np.ascontiguousarray(soxr.resample(samples, rate, new_rate, quality="HQ"), np.float32)


def encode_flac(samples: np.ndarray, rate: int) -> bytes:
    """Pack int16 mono samples of shape (N,) as 16-bit FLAC. Lossless.

    Raises:
        TypeError: the samples are not int16, or have more than one axis.
    """
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise TypeError(
            f"Got samples of type {samples.dtype} and shape {samples.shape}, expected int16 (N,)."
        )
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> tuple[np.ndarray, int]:
    """Inverse of :func:`encode_flac`: int16 samples of shape (N,) and their rate in Hz.

    Raises:
        AudioError: the bytes are no FLAC, or are damaged.
    """
    try:
        samples, rate = sf.read(io.BytesIO(data), dtype="int16")
    except sf.LibsndfileError as error:
        why = error.error_string.rstrip(".")  # the rest names a place in memory
        raise AudioError(f"{len(data)} bytes could not be decoded as FLAC: {why}.") from error
    return samples, rate


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round float samples in [−1, 1] to int16; what lies beyond is clipped."""
    return np.clip(np.rint(samples * 32767.0), -32768, 32767).astype(np.int16)


@contextmanager
def _opened(path: str) -> Iterator[sf.SoundFile]:
    """An open sound file; every failure to open or to decode becomes an AudioError."""
    try:
        if "://" not in path and _is_special(path):
            raise AudioError(f"{path} is a device or a pipe, expected an audio file.")
        if "://" in path:
            with _opened_url(path) as raw, sf.SoundFile(raw) as file:
                yield file
        else:
            with sf.SoundFile(path) as file:
                yield file
    except (sf.LibsndfileError, OSError, ValueError) as error:
        raise AudioError(_why_unreadable(path, error)) from error


def _is_special(path: str) -> bool:
    """Whether reading might never end, or never begin; symlinks are followed."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _frames_at_end(file: sf.SoundFile, count: int) -> int:
    try:
        file.seek(file.frames - count)
        return len(file.read(count, dtype="float32"))
    except sf.LibsndfileError:
        return 0


def _opened_url(url: str) -> BinaryIO:
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError as error:
        raise AudioError(
            f"{url} is a URL, and reading it needs fsspec: pip install fsspec, or copy the "
            "audio to a local path."
        ) from error
    try:
        return fsspec.open(url, "rb").open()  # type: ignore[no-any-return]
    except (OSError, ValueError, ImportError) as error:
        raise AudioError(f"{url} cannot be opened: {error}.") from error


def _why_unreadable(path: str, error: Exception) -> str:
    if "://" in path:
        return f"{path} cannot be read as audio: {error}."
    if not Path(path).exists():
        return f"{path} does not exist; check the manifest's paths."
    if not Path(path).is_file():
        return f"{path} is a folder, expected an audio file."
    if Path(path).stat().st_size == 0:
        return f"{path} is an empty file, expected audio."
    reason = getattr(error, "error_string", str(error)).rstrip(".")
    return f"{path} cannot be read as audio: {reason}."


def _read_stretch(file: sf.SoundFile, ref: AudioRef) -> np.ndarray:
    """float32 (N, channels) from offset, for duration or to the end."""
    rate = file.samplerate
    if rate < _LOWEST_RATE:
        raise AudioError(f"{ref.path} has a rate of {rate} Hz, expected {_LOWEST_RATE} or more.")
    if ref.duration is not None and ref.duration <= 0:
        raise AudioError(
            f"{ref.path}: the utterance lasts {ref.duration:g} s, expected more than 0."
        )
    length = max(file.frames, 1) / rate
    start = round(ref.offset * rate) if 0 <= ref.offset <= length else file.frames
    if not 0 <= start < max(file.frames, 1):
        raise AudioError(
            f"{ref.path} is {file.frames / rate:.3f} s long, "
            f"and the utterance begins at {ref.offset:.3f} s."
        )
    file.seek(start)
    # What lies beyond the end is no number of frames to ask for: a claim may be of any size.
    claimed = length if ref.duration is None else min(ref.duration, length + 1.0)
    return _read_frames(file, round(claimed * rate))


def _read_frames(file: sf.SoundFile, count: int) -> np.ndarray:
    """float32 (N, channels), at most ``count`` frames, block by block."""
    blocks: list[np.ndarray] = []
    while True:
        block = file.read(min(count, _BLOCK_FRAMES), dtype="float32", always_2d=True)
        blocks.append(block)
        count -= len(block)
        if count <= 0 or not len(block):
            return np.concatenate(blocks) if len(blocks) > 1 else block


def _refuse_cut(path: str) -> None:
    """Of formats that libsndfile reads as far as they go."""
    if "://" in path:
        return
    with Path(path).open("rb") as file:
        missing = missing_seconds(file)
    if missing > TRUNCATION_TOLERANCE:
        raise AudioError(
            f"{path} is truncated: its header promises {missing:.3f} s more than the file holds."
        )


def _refuse_unusable(samples_NC: np.ndarray, rate: int, ref: AudioRef) -> None:
    got = len(samples_NC) / rate
    if ref.duration is not None and got < ref.duration - TRUNCATION_TOLERANCE:
        raise AudioError(
            f"{ref.path} is truncated: {got:.3f} s could be read from {ref.offset:.3f} s, "
            f"expected {ref.duration:.3f} s."
        )
    if not len(samples_NC):
        raise AudioError(f"{ref.path} holds no samples from {ref.offset:.3f} s on.")
    if not np.isfinite(samples_NC).all():
        raise AudioError(f"{ref.path} holds samples that are NaN or infinite.")
