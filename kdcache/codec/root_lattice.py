"""Packs lattices in even steps of √p, each node told by what is known of its neighbours.

Notable features
- The step is even where equal steps lose equally much (``kdcache.codec.scale``), and what lies
  below half a step costs next to nothing: it stands for the mean of its like in the utterance.
- The likeliest class of a node is implied by the others.
- Codes are read in four goes of array operations (``kdcache.codec.nodes``).

Error. Let n be the steps, h = 1/2n. A class that has a code c ≥ 1 is decoded as (c/n)², with √p
within h of that. One of code 0 has √p ≤ h, and is decoded as some probability from 2⁻³²h² to h².
Let s be the sum of these and m the largest. The likeliest class has max(1 − s, m), and all are
divided by the sum, max(1, s + m).

Shapes: T encoder frames, S columns of a frame's window, K more classes, C = 3+K classes of a node,
N = T·S nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from kdcache.codec.contexts import Cursor, Reader, Writer, to_varint
from kdcache.codec.ids import ABSENT, pack_ids, unpack_ids
from kdcache.codec.lattice import SPECIAL_CLASSES, parse_lattice
from kdcache.codec.logprob import parse_logp
from kdcache.codec.nodes import CONTEXTS, visit
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import BLANK, LABEL, LatticeRecord
from kdcache.codec.scale import parse_integer
from kdcache.codec.starts import pack_starts, unpack_starts
from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.records import Record

_FLOAT32_SLACK = 2.0**-19
_MOST_NODES = 1 << 28
_OF_KIND = (slice(BLANK, BLANK + 1), slice(LABEL, LABEL + 1), slice(LABEL + 1, None))
"""Blank, label and all others: code 0 stands for a probability of its own in each."""
_NONE = np.zeros(0, np.int64)


class _Codes(NamedTuple):
    """A lattice in codes.

    Attributes:
        lead_N: int64 (N+1), the likeliest class; the last means nothing.
        codes_NC: int64 (N+1, C).
        there_NC: bool (N, C), classes of some probability.
        floors: uint8 (3,), what code 0 stands for: 2^(−f/8)/4n².
    """

    lead_N: np.ndarray
    codes_NC: np.ndarray
    there_NC: np.ndarray
    floors: np.ndarray


@dataclass(frozen=True)
class RootLatticeCodec:
    """Columns ``packed`` uint8 and, of a band, ``starts``.

    Ids, starts and zero probabilities are exact. Bound: as the file's head derives.

    Attributes:
        steps: n of √p between 0 and 1, 4 to 1024. Twice as many lose a quarter.
    """

    steps: int = 16

    name: ClassVar[str] = "root"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", parse_integer("root", "steps", self.steps, 4, 1024))

    def columns(self) -> dict[str, ColumnSpec]:
        """``starts`` is optional: of a whole lattice there are none."""
        return {
            "packed": ColumnSpec("uint8", 1),
            "starts": ColumnSpec("uint8", 1, optional=True),
        }

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Header, streams, and starts.

        Raises:
            TeacherOutputError: shapes that do not fit, NaN or a positive log-probability.
            ConfigError: ids that 16 bits do not hold.
        """
        record = parse_lattice(record)
        frames, width, kept = record.ids_TSK.shape
        codes, starts_T = self._codes(record), _starts(record)
        flips = np.flatnonzero(codes.there_NC != _usual(starts_T, width, kept))
        writer = Writer(CONTEXTS + 1)
        writer(np.zeros(len(flips), np.uint8), np.diff(flips, prepend=-1) - 1)
        visit(
            writer,
            starts_T,
            codes.lead_N,
            codes.codes_NC,
            codes.there_NC.reshape(frames, width, kept + SPECIAL_CLASSES),
            self.steps,
        )
        ids = pack_ids(record.ids_TSK).reshape(-1).astype(np.int64)
        writer(np.full(len(ids), CONTEXTS, np.uint8), ids + 1 & ABSENT)
        sizes = b"".join(map(to_varint, (frames, width, kept, len(flips))))
        packed = sizes + codes.floors.tobytes() + writer.to_bytes()
        columns = {"packed": np.frombuffer(packed, np.uint8).copy()}
        if record.starts_T is not None:
            columns["starts"] = pack_starts(record.starts_T)
        return columns

    def decode(self, columns: Mapping[str, np.ndarray]) -> LatticeRecord:
        """Normalised float32 log-probabilities, int32 ids and starts.

        Raises:
            DamagedCacheError: the bytes are no such columns.
        """
        cursor = Cursor(columns["packed"])
        frames, width, kept, flips = (cursor.varint() for _ in range(4))
        if frames * width * (kept + SPECIAL_CLASSES) > _MOST_NODES:
            raise DamagedCacheError(f"a lattice of {frames} × {width} nodes of {kept} more classes")
        floors = np.array([cursor.byte() for _ in _OF_KIND])
        starts_T = None
        if "starts" in columns:
            starts_T = unpack_starts(columns["starts"], frames)
        from_T = np.zeros(frames, np.int32) if starts_T is None else starts_T
        reader = Reader(columns["packed"][cursor.at :], CONTEXTS + 1)
        there_NC = _usual(from_T, width, kept)
        at = np.cumsum(reader(np.zeros(flips, np.uint8), _NONE) + 1) - 1
        if len(at) and int(at[-1]) >= there_NC.size:
            raise DamagedCacheError("a class without probability is in none of the nodes")
        there_NC.reshape(-1)[at] ^= True
        lead_N = np.full(frames * width + 1, -1)
        codes_NC = np.zeros((len(lead_N), there_NC.shape[1]), np.int64)
        codes_NC[-1] = -1
        visit(reader, from_T, lead_N, codes_NC, there_NC.reshape(frames, width, kept + SPECIAL_CLASSES), self.steps)
        ids = reader(np.full(frames * width * kept, CONTEXTS, np.uint8), _NONE)
        reader.close()
        logp_NC = self._logp(_Codes(lead_N, codes_NC, there_NC, floors))
        return LatticeRecord(
            logp_NC.reshape(frames, width, kept + SPECIAL_CLASSES),
            unpack_ids((ids - 1 & ABSENT).astype(np.uint16)).reshape(frames, width, kept),
            starts_T,
        )

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (T, S, 3+K)."""
        record = parse_lattice(record)
        logp_NC, codes = _rows(record), self._codes(record)
        low_NC, high_NC = self._interval(logp_NC, codes)
        lead_NC = codes.lead_N[:-1, None] == np.arange(logp_NC.shape[1])
        least_N, most_N = low_NC.sum(-1), high_NC.sum(-1)
        low_m, high_m = low_NC.max(-1), high_NC.max(-1)
        low_NC[lead_NC] = np.maximum(1 - most_N, low_m)
        high_NC[lead_NC] = np.maximum(1 - least_N, high_m)
        most_N1 = np.maximum(1, most_N + high_m)[:, None]
        least_N1 = np.maximum(1, least_N + low_m)[:, None]
        given_NC = np.where(codes.there_NC, logp_NC, 0.0)
        with np.errstate(divide="ignore"):
            above_NC = np.log(high_NC / least_N1) - given_NC
            below_NC = given_NC - np.log(low_NC / most_N1)
        bound_NC = np.maximum(above_NC, below_NC) + _FLOAT32_SLACK * (1.0 - given_NC)
        bound: np.ndarray = np.where(codes.there_NC, bound_NC, 0.0).astype(np.float32)
        return bound.reshape(record.logp_TSC.shape)

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "root", "steps": …}``."""
        return {"name": self.name, "steps": self.steps}

    def _codes(self, record: LatticeRecord) -> _Codes:
        logp_NC = _rows(record)
        p_NC, there_NC = np.exp(logp_NC), ~np.isneginf(logp_NC)
        codes_NC = np.full((len(p_NC) + 1, p_NC.shape[1]), -1)
        codes_NC[:-1] = np.rint(np.sqrt(p_NC) * self.steps)
        lead_N = np.full(len(p_NC) + 1, -1)
        lead_N[:-1] = p_NC.argmax(-1)
        codes_NC[np.arange(len(p_NC)), lead_N[:-1]] = self.steps
        little_NC = there_NC & (codes_NC[:-1] == 0)
        return _Codes(lead_N, codes_NC, there_NC, self._floors(p_NC, little_NC))

    def _floors(self, p_NC: np.ndarray, little_NC: np.ndarray) -> np.ndarray:
        """Means of what has code 0, as ``_Codes`` has them; 255 where nothing has."""
        floors = np.full(len(_OF_KIND), 255, np.uint8)
        for kind, classes in enumerate(_OF_KIND):
            little = p_NC[:, classes][little_NC[:, classes]]
            share = 4.0 * self.steps**2 * float(little.mean()) if len(little) else 0.0
            if share > 0:
                floors[kind] = np.rint(-8 * np.log2(share)).clip(0, 255)
        return floors

    def _interval(self, logp_NC: np.ndarray, codes: _Codes) -> tuple[np.ndarray, np.ndarray]:
        """What classes may be decoded as before dividing; 0 for leads and zero probability."""
        root_NC, half = np.exp(0.5 * logp_NC), 0.5 / self.steps
        some_NC = codes.codes_NC[:-1] > 0
        low_NC = np.where(some_NC, (root_NC - half).clip(2 * half), half * 2.0**-16) ** 2
        high_NC = np.where(some_NC, root_NC + half, half) ** 2
        asked_NC = codes.there_NC & (codes.lead_N[:-1, None] != np.arange(logp_NC.shape[1]))
        return np.where(asked_NC, low_NC, 0.0), np.where(asked_NC, high_NC, 0.0)

    def _logp(self, codes: _Codes) -> np.ndarray:
        """Decoded float32 log-probabilities (N, C)."""
        floors = 2.0 ** (codes.floors / -8.0) / (4 * self.steps**2)
        scale = (np.arange(self.steps + 1) / self.steps) ** 2
        p_of = np.concatenate([scale, floors, [0.0]])
        with np.errstate(divide="ignore"):
            logp_of = np.log(p_of)
        index_NC = codes.codes_NC[:-1].copy()
        for kind, classes in enumerate(_OF_KIND):
            part = index_NC[:, classes]
            part[part == 0] = self.steps + 1 + kind
        index_NC[~codes.there_NC] = len(p_of) - 1
        rows, lead_N = np.arange(len(index_NC)), codes.lead_N[:-1]
        index_NC[rows, lead_N] = len(p_of) - 1
        p_NC = p_of[index_NC]
        others_N, largest_N = _sum_and_max(p_NC)
        own_N = np.maximum(1 - others_N, largest_N)
        logp_NC = logp_of[index_NC]
        logp_NC[rows, lead_N] = np.log(own_N)
        logp_NC -= np.log(np.maximum(1, others_N + largest_N))[:, None]
        return logp_NC.astype(np.float32)


def _sum_and_max(p_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over classes; column by column, as there are few of them."""
    total_N, largest_N = p_NC[:, 0].copy(), p_NC[:, 0].copy()
    for column_N in p_NC.T[1:]:
        total_N += column_N
        np.maximum(largest_N, column_N, out=largest_N)
    return total_N, largest_N


def _rows(record: LatticeRecord) -> np.ndarray:
    """float64 log-probabilities (N, C), checked."""
    logp_TSC = parse_logp(record.logp_TSC)
    return logp_TSC.reshape(-1, logp_TSC.shape[-1]).astype(np.float64)


def _starts(record: LatticeRecord) -> np.ndarray:
    if record.starts_T is None:
        return np.zeros(len(record.logp_TSC), np.int32)
    return record.starts_T


def _usual(starts_T: np.ndarray, width: int, kept: int) -> np.ndarray:
    """Classes of some probability, where only the label of the last column has none: (N, C)."""
    there_TSC = np.ones((len(starts_T), width, kept + SPECIAL_CLASSES), bool)
    there_TSC[starts_T == starts_T[-1:], -1:, LABEL] = False
    return there_TSC.reshape(-1, kept + SPECIAL_CLASSES)
