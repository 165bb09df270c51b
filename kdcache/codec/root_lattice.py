"""Packs lattices in even steps of √p, each node told by what is known of its neighbours.

Notable features
- What is all but certain costs next to nothing, and nearly all of a lattice is; the likeliest
  class of a node is implied by the others (``kdcache.codec.node_scale``).
- Golomb codes are chosen by what the neighbours in time say (``kdcache.codec.nodes``).
- Packing and unpacking are a few array operations over the whole utterance.

Column ``packed``: counts (``kdcache.codec.contexts``) of T, S, K and of classes whose probability
is zero where it is not usual or the reverse; three bytes of floors; then the streams. Context 0
tells where these classes are: how many lie between each and the one before. Usually, all have
probability but labels in column U.

Shapes: T encoder frames, S columns of a frame's window, N = T·S nodes, K more classes, C = 3+K
classes of a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from kdcache.codec.contexts import Cursor, Reader, Writer, to_varint
from kdcache.codec.ids import check_ids
from kdcache.codec.lattice import SPECIAL_CLASSES, parse_lattice
from kdcache.codec.logprob import parse_logp
from kdcache.codec.node_ids import CONTEXTS, visit_ids
from kdcache.codec.node_scale import KINDS, NodeCodes, NodeScale
from kdcache.codec.nodes import visit
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import LABEL, LatticeRecord
from kdcache.codec.scale import parse_integer
from kdcache.codec.starts import pack_starts, unpack_starts
from kdcache.codec.windows import Windows
from kdcache.errors import DamagedCacheError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kdcache.codec.records import Record

_MOST_CLASSES = 1 << 28
"""Of all nodes; more is a damaged header."""

_TOGETHER = 256 // CONTEXTS
"""Lattices whose contexts fit into a byte; more at a time would not be faster."""

_NO_NUMBERS = np.zeros(0, np.int64)


class _Head(NamedTuple):
    """Sizes of a lattice, and where its streams begin."""

    frames: int
    width: int
    kept: int
    flips: int
    floors: list[int]
    at: int

    @property
    def nodes(self) -> int:
        return self.frames * self.width

    @property
    def classes(self) -> int:
        return self.kept + SPECIAL_CLASSES


@dataclass(frozen=True)
class RootLatticeCodec:
    """Columns ``packed`` uint8 and, of a band, ``starts``.

    Ids, starts and zero probabilities are exact. Bound: that of ``NodeScale``.

    Attributes:
        steps: n of √p between 0 and 1, 2 to 1024. Twice as many lose about a quarter.
    """

    steps: int = 16

    name: ClassVar[str] = "root"
    fewest: ClassVar[int] = 2
    most: ClassVar[int] = 1024

    def __post_init__(self) -> None:
        steps = parse_integer("root", "steps", self.steps, self.fewest, self.most)
        object.__setattr__(self, "steps", steps)

    def columns(self) -> dict[str, ColumnSpec]:
        """``starts`` is optional: of a whole lattice there are none."""
        return {
            "packed": ColumnSpec("uint8", 1),
            "starts": ColumnSpec("uint8", 1, optional=True),
        }

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Header and streams, and starts.

        Raises:
            TeacherOutputError: shapes that do not fit, NaN or a positive log-probability.
            ConfigError: ids that 16 bits do not hold.
        """
        record = parse_lattice(record)
        check_ids(record.ids_TSK)
        codes = NodeScale(self.steps).codes(_rows(record))
        columns = {"packed": self._packed(record, codes)}
        if record.starts_T is not None:
            columns["starts"] = pack_starts(record.starts_T)
        return columns

    def decode(self, columns: Mapping[str, np.ndarray]) -> LatticeRecord:
        """Normalised float32 log-probabilities, int32 ids and starts.

        Raises:
            DamagedCacheError: the bytes are no such columns.
        """
        (record,) = self.decode_all([columns])
        return record

    def decode_all(self, parts: Sequence[Mapping[str, np.ndarray]]) -> list[LatticeRecord]:
        """The same of several utterances: together they take little longer than one.

        Raises:
            DamagedCacheError: the bytes of one are no such columns.
        """
        found: list[LatticeRecord] = []
        start = 0
        heads = [_read_head(columns["packed"]) for columns in parts]
        while start < len(parts):
            end = start + _alike(heads[start : start + _TOGETHER])
            found += self._decode(parts[start:end], heads[start:end])
            start = end
        return found

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (T, S, 3+K)."""
        record = parse_lattice(record)
        return NodeScale(self.steps).error_bound(_rows(record)).reshape(record.logp_TSC.shape)

    def to_dict(self) -> dict[str, Any]:
        """``{"name": "root", "steps": …}``."""
        return {"name": self.name, "steps": self.steps}

    def _packed(self, record: LatticeRecord, codes: NodeCodes) -> np.ndarray:
        frames, width, kept = record.ids_TSK.shape
        starts_T = _or_zeros(record.starts_T, frames)
        windows, writer = Windows.of(starts_T, width), Writer(CONTEXTS)
        flips = np.flatnonzero(codes.there_NC != _usual(starts_T, width, kept))
        writer(np.zeros(len(flips), np.uint8), np.diff(flips, prepend=-1) - 1)
        visit(writer, windows, codes.lead_N, codes.codes_NC, codes.there_NC, self.steps)
        visit_ids(writer, windows, _with_none(record.ids_TSK.reshape(frames * width, kept)))
        sizes = b"".join(map(to_varint, (frames, width, kept, len(flips))))
        packed = sizes + codes.floors.tobytes() + writer.to_bytes()
        return np.frombuffer(packed, np.uint8).copy()

    def _decode(
        self, parts: Sequence[Mapping[str, np.ndarray]], heads: Sequence[_Head]
    ) -> Iterator[LatticeRecord]:
        """Lattices of one number of classes, at most ``_TOGETHER``."""
        pairs = list(zip(parts, heads, strict=True))
        starts = [
            unpack_starts(columns["starts"], head.frames) if "starts" in columns else None
            for columns, head in pairs
        ]
        reader = Reader([columns["packed"][head.at :] for columns, head in pairs], CONTEXTS)
        codes, ids_NK = _read(
            reader,
            [_or_zeros(*pair) for pair in zip(starts, (h.frames for h in heads), strict=True)],
            heads,
            self.steps,
        )
        logp_NC, ids_NK = NodeScale(self.steps).logp(codes), ids_NK.astype(np.int32, copy=False)
        at = 0
        for head, starts_T in zip(heads, starts, strict=True):
            nodes, shape = slice(at, at + head.nodes), (head.frames, head.width)
            yield LatticeRecord(
                logp_NC[nodes].reshape(*shape, head.classes),
                ids_NK[nodes].reshape(*shape, head.kept),
                starts_T,
            )
            at += head.nodes


def _read_head(packed: np.ndarray) -> _Head:
    cursor = Cursor(packed)
    frames, width, kept, flips = (cursor.varint() for _ in range(4))
    floors = [cursor.byte() for _ in KINDS]
    head = _Head(frames, width, kept, flips, floors, cursor.at)
    if head.frames * max(head.width, 1) * head.classes > _MOST_CLASSES:
        raise DamagedCacheError(
            f"a lattice of {head.frames:,} × {head.width:,} nodes, {head.kept:,} classes"
        )
    return head


def _alike(heads: Sequence[_Head]) -> int:
    """How many of the first have as many classes as the first."""
    others = (i for i, head in enumerate(heads) if head.kept != heads[0].kept)
    return next(others, len(heads))


def _read(
    reader: Reader, starts: Sequence[np.ndarray], heads: Sequence[_Head], steps: int
) -> tuple[NodeCodes, np.ndarray]:
    """Codes and ids (N, K) of lattices, one after the other."""
    pairs = list(zip(starts, heads, strict=True))
    windows = Windows.joined([Windows.of(s, head.width) for s, head in pairs], CONTEXTS)
    usual = [_usual(s, head.width, head.kept) for s, head in pairs]
    _flip(reader, usual, [head.flips for head in heads])
    there_NC = np.concatenate(usual)
    codes_NC = _with_none(np.zeros(there_NC.shape, np.int32))
    lead_N = np.full(len(codes_NC), -1, np.int32)
    visit(reader, windows, lead_N, codes_NC, there_NC, steps)
    ids_NK = _with_none(np.zeros((len(there_NC), heads[0].kept), np.int32))
    visit_ids(reader, windows, ids_NK)
    reader.close()
    floors, nodes = np.array([head.floors for head in heads]), tuple(h.nodes for h in heads)
    return NodeCodes(lead_N, codes_NC, there_NC, floors, nodes), ids_NK[:-1]


def _flip(reader: Reader, usual: Sequence[np.ndarray], flips: Sequence[int]) -> None:
    """Classes whose probability is zero where it is not usual, or the reverse; in place."""
    if not any(flips):
        return
    bases = np.arange(len(flips), dtype=np.uint8) * np.uint8(CONTEXTS)
    skipped = reader(np.repeat(bases, flips), _NO_NUMBERS)
    for there_NC, part in zip(usual, np.split(skipped, np.cumsum(flips[:-1])), strict=True):
        at = np.cumsum(part + 1) - 1
        if len(at) and int(at[-1]) >= there_NC.size:
            raise DamagedCacheError("a class without probability is in none of the nodes")
        there_NC.reshape(-1)[at] ^= True


def _rows(record: LatticeRecord) -> np.ndarray:
    """float64 log-probabilities (N, C), checked."""
    logp_TSC = parse_logp(record.logp_TSC).astype(np.float64)
    rows_NC: np.ndarray = logp_TSC.reshape(-1, logp_TSC.shape[-1])
    return rows_NC


def _or_zeros(starts_T: np.ndarray | None, frames: int) -> np.ndarray:
    return np.zeros(frames, np.int32) if starts_T is None else starts_T


def _with_none(rows: np.ndarray) -> np.ndarray:
    """int32, with one more row, −1."""
    return np.concatenate(
        [rows.astype(np.int32, copy=False), np.full((1, rows.shape[1]), -1, np.int32)]
    )


def _usual(starts_T: np.ndarray, width: int, kept: int) -> np.ndarray:
    """bool (N, C), which classes have some probability: all but labels in column U."""
    there_TSC = np.ones((len(starts_T), width, kept + SPECIAL_CLASSES), bool)
    there_TSC[starts_T == starts_T[-1:], -1:, LABEL] = False
    return there_TSC.reshape(-1, kept + SPECIAL_CLASSES)
