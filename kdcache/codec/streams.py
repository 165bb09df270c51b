"""The one column of the ragged codec: rows of codes and ids ↔ bytes.

The column is a header (``HEADER``), the prefixes and the mantissas of six streams of numbers
(``kdcache.codec.golomb``):

    count    N  classes of the row beside its likeliest
    first    N  its likeliest class: 0 the utterance's usual one, i + 1 class i, 65,536 none
    rest     N  code c of the rest against the utterance's median m: 2(c − m), or 2(m − c) − 1
    gap      M  ids of the others: classes skipped since the next smaller id of the row
    code     M  their codes, in the same order
    lead     L  codes of the likeliest classes that are not implied

A stream's numbers are stored less their minimum, and not at all where all are equal.

Shapes: N frames or tokens, M kept classes of all rows but the likeliest of each, L rows whose
likeliest class has a code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kdcache.codec import golomb
from kdcache.errors import DamagedCacheError, TeacherOutputError

STREAMS = 6
CONSTANT = 255
"""In the place of a stream's code where all its numbers are the minimum."""

HEADER = np.dtype(
    [
        ("rows", "<u4"),
        ("others", "<u4"),
        ("leads", "<u4"),
        ("prefix_bytes", "<u4"),
        ("usual", "<u2"),
        ("median", "<u2"),
        ("lowest", "<u2", STREAMS),
        ("codes", "u1", STREAMS),
    ]
)

_NO_CLASS = 65_536
_LARGEST_MINIMUM = 65_535


class Rows(NamedTuple):
    """An utterance in codes.

    Attributes:
        count_N: classes of each row, 0 to K.
        first_N: id of the likeliest; means nothing where there is none.
        rest_N: code of the rest.
        row_M, id_M, code_M: the other classes, by row and id.
        lead_L: codes of the likeliest that are not implied, by row.
    """

    count_N: np.ndarray
    first_N: np.ndarray
    rest_N: np.ndarray
    row_M: np.ndarray
    id_M: np.ndarray
    code_M: np.ndarray
    lead_L: np.ndarray


def pack_rows(rows: Rows) -> np.ndarray:
    """uint8: header, prefixes, mantissas.

    Raises:
        TeacherOutputError: a row has a class twice.
    """
    head = np.zeros(1, HEADER)[0]
    streams = _to_streams(rows, _usual(rows), _median(rows.rest_N))
    lowest = [int(s.min(initial=_LARGEST_MINIMUM)) if len(s) else 0 for s in streams]
    shifted = [s - low for s, low in zip(streams, lowest, strict=True)]
    codes = {i: golomb.best_code(s) for i, s in enumerate(shifted) if s.any()}
    prefixes, mantissas = golomb.encode([shifted[i] for i in codes], list(codes.values()))
    head["rows"], head["others"], head["leads"] = (len(streams[i]) for i in (0, 3, 5))
    head["prefix_bytes"] = len(prefixes)
    head["usual"], head["median"] = _usual(rows), _median(rows.rest_N)
    head["lowest"] = lowest
    head["codes"] = [codes[i].to_byte() if i in codes else CONSTANT for i in range(STREAMS)]
    return np.frombuffer(head.tobytes() + prefixes + mantissas, np.uint8).copy()


def unpack_rows(packed: np.ndarray) -> Rows:
    """Inverse of :func:`pack_rows`.

    Raises:
        DamagedCacheError: the bytes are no such column.
    """
    if len(packed) < HEADER.itemsize:
        raise DamagedCacheError(f"{len(packed)} bytes, expected at least {HEADER.itemsize}")
    head = packed[: HEADER.itemsize].view(HEADER)[0]
    more_N, first_N, away_N, gap_M, code_M, lead_L = _read_streams(head, packed[HEADER.itemsize :])
    if int(more_N.sum()) != len(gap_M):
        raise DamagedCacheError(f"rows of {int(more_N.sum())} classes, expected {len(gap_M)}")
    row_M = np.repeat(np.arange(len(more_N)), more_N)
    return Rows(
        count_N=np.where(first_N == _NO_CLASS, 0, more_N + 1),
        first_N=np.where(first_N == 0, int(head["usual"]), first_N - 1),
        rest_N=int(head["median"]) + (away_N >> 1 ^ -(away_N & 1)),
        row_M=row_M,
        id_M=_ids(gap_M, row_M),
        code_M=code_M,
        lead_L=lead_L,
    )


def _read_streams(head: np.void, body: np.ndarray) -> list[np.ndarray]:
    rows, others, leads = int(head["rows"]), int(head["others"]), int(head["leads"])
    lengths = [rows, rows, rows, others, others, leads]
    there = [i for i in range(STREAMS) if head["codes"][i] != CONSTANT]
    codes = [golomb.Code.from_byte(int(head["codes"][i])) for i in there]
    middle = int(head["prefix_bytes"])
    found = golomb.decode(body[:middle], body[middle:], codes, [lengths[i] for i in there])
    shifted = dict(zip(there, found, strict=True))
    lowest = head["lowest"].tolist()
    return [
        shifted[i] + lowest[i] if i in shifted else np.full(length, lowest[i])
        for i, length in enumerate(lengths)
    ]


def _to_streams(rows: Rows, usual: int, median: int) -> list[np.ndarray]:
    first_N = np.where(rows.first_N == usual, 0, rows.first_N + 1)
    away_N = rows.rest_N - median
    starts_M = np.diff(rows.row_M, prepend=-1) > 0
    gap_M = np.where(starts_M, rows.id_M, np.diff(rows.id_M, prepend=0) - 1)
    if int(gap_M.min(initial=0)) < 0:
        raise TeacherOutputError("a row of posteriors has a class twice")
    return [
        np.maximum(rows.count_N - 1, 0),
        np.where(rows.count_N == 0, _NO_CLASS, first_N),
        np.where(away_N >= 0, 2 * away_N, -2 * away_N - 1),
        gap_M,
        rows.code_M,
        rows.lead_L,
    ]


def _usual(rows: Rows) -> int:
    """The class that is the likeliest of most rows; of equals the smallest."""
    ids = rows.first_N[rows.count_N > 0]
    return int(np.bincount(ids).argmax()) if len(ids) else 0


def _median(rest_N: np.ndarray) -> int:
    return int(np.sort(rest_N)[len(rest_N) // 2]) if len(rest_N) else 0


def _ids(gap_M: np.ndarray, row_M: np.ndarray) -> np.ndarray:
    """Class ids from the gaps between them: sums that start anew with each row."""
    after_M = np.cumsum(gap_M + 1)
    starts = np.flatnonzero(np.diff(row_M, prepend=-1))
    before = after_M[starts] - gap_M[starts] - 1
    ids_M: np.ndarray = after_M - 1 - np.repeat(before, np.diff(starts, append=len(row_M)))
    return ids_M
