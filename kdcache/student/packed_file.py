"""A safetensors file, packed: 8-bit integers instead of floats, zeros left out, no name twice.

    KDCPACK1   8 bytes
    header     4 + n: length, then JSON in zlib: metadata, and name, dtype and shape by tensor
    tensors    one after the other, see ``kdcache.student.packed_tensor``
    CRC-32     4 bytes, of all before

What it says of itself is numbers and names: nothing in it is run. The same tensors give the same
bytes.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kdcache.errors import InputError
from kdcache.student.packed_tensor import pack_tensor, unpack_tensor
from kdcache.student.rounding import is_rounded

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"KDCPACK1"
LONGEST_HEADER = 1 << 26
"""Bytes of a header that are unpacked, so that a small file cannot fill the memory."""

DTYPES = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")
"""Of tensors that can be packed."""


def pack_file(source: Path, path: Path, *, int8: bool, sparse: bool) -> int:
    """Pack a safetensors file; the bytes of what was written.

    Args:
        source: the file.
        path: where to.
        int8: whether matrices and kernels are rounded to 8 bits; the rest stays as it is.
        sparse: whether zeros are left out where that saves bytes.

    Raises:
        InputError: the file cannot be read, or holds what cannot be packed.
    """
    tensors, metadata = _read(source)
    named = [[name, str(value.dtype), list(value.shape)] for name, value in tensors.items()]
    header = {"metadata": metadata, "tensors": named}
    squeezed = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    parts = [MAGIC, len(squeezed).to_bytes(4, "little"), squeezed]
    for name, value in tensors.items():
        small = int8 and value.dtype == np.float32 and is_rounded(name, value.ndim)
        parts.append(pack_tensor(value, int8=small, sparse=sparse))
    body = b"".join(parts)
    return path.write_bytes(body + zlib.crc32(body).to_bytes(4, "little"))


def unpack_file(path: Path, target: Path) -> None:
    """Write the safetensors file that a packed one stands for.

    Raises:
        InputError: it is no such file, or damaged.
    """
    tensors, metadata = read_packed(path)
    save_file(tensors, target, metadata)


def read_packed(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a packed file by name, integers multiplied out, and its metadata.

    Raises:
        InputError: it is no such file, or damaged.
    """
    data = path.read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        raise InputError(
            f"{path} holds no packed weights; `kdcache student pack` writes such files."
        )
    body = data[:-4]
    if zlib.crc32(body).to_bytes(4, "little") != data[-4:]:
        raise InputError(f"{path} is damaged: its checksum is another; copy it again.")
    try:
        header, at = _header(body)
        tensors = {}
        for name, dtype, shape in header["tensors"]:
            if dtype not in DTYPES:
                raise InputError(f"A tensor is of {dtype!r}, which cannot be packed.")
            rest = memoryview(body)[at:]
            tensors[str(name)], taken = unpack_tensor(rest, dtype, tuple(map(int, shape)))
            at += taken
        if at != len(body):
            raise InputError(f"{len(body) - at} bytes follow the last tensor; copy the file again.")
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); pack the student again.") from error
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from error
    return tensors, header["metadata"]


def _header(body: bytes) -> tuple[dict[str, Any], int]:
    """What is in it, and where the tensors begin."""
    begin = len(MAGIC) + 4
    end = begin + int.from_bytes(body[len(MAGIC) : begin], "little")
    unzip = zlib.decompressobj()
    text = unzip.decompress(body[begin:end], LONGEST_HEADER)
    header: dict[str, Any] = json.loads(text)
    return header, end


def _read(source: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name, sorted, and metadata."""
    try:
        with safe_open(source, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(f"{source} cannot be packed ({error}); train or save it again.") from error
    other = [name for name, value in tensors.items() if str(value.dtype) not in DTYPES]
    wrong = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if other or wrong:
        name = (other or wrong)[0]
        raise InputError(
            f"{source}: {name} holds {tensors[name].dtype} values that cannot be packed (NaN, "
            "infinite, or of a dtype that no student has); train or save it again."
        )
    return tensors, metadata
