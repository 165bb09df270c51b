"""How much of a WAV file is missing: libsndfile believes the file's length, not its header.

A WAV file is a list of chunks, each with four letters and its number of bytes; samples are in
``data``, and ``fmt`` says how many bytes a second are (Microsoft and IBM, *Multimedia Programming
Interface and Data Specifications 1.0*, 1991). A file that was cut short is read as if it had been
meant to be so short, while its transcript is that of the whole.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNKNOWN = 0x7FFF_0000
"""Bytes from which on a number stands for "not known": programs that write into a pipe put there
the largest one that fits, or nearly so."""

_CHUNKS = 1000
"""More than any file has before its samples."""


def missing_seconds(file: BinaryIO) -> float:
    """Seconds of audio that the header of a WAV file promises and the file does not hold.

    Args:
        file: at its start; of another format it is as good as whole.
    """
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0.0
    byte_rate = 0
    for name, size in _chunks(file):
        if name == b"fmt ":
            byte_rate = _byte_rate(file)
        elif name == b"data":
            missing = _missing_bytes(file, size)
            return missing / byte_rate if byte_rate else 0.0
    return 0.0


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and bytes of each, with the file at its first byte."""
    for _ in range(_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        start = file.tell()
        yield head[:4], size
        file.seek(start + size + size % 2)


def _missing_bytes(file: BinaryIO, promised: int) -> int:
    start = file.tell()
    held = file.seek(0, io.SEEK_END) - start
    return max(0, promised - held) if promised < _UNKNOWN else 0


def _byte_rate(file: BinaryIO) -> int:
    """Bytes a second; 0 where the chunk is cut."""
    raw = file.read(12)
    return int.from_bytes(raw[8:], "little") if len(raw) == 12 else 0
