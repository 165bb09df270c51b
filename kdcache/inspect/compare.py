"""Compare two caches of the same utterances: two teachers, two settings, or two codecs.

A is the reference: of posteriors KL(A ‖ B) is taken row by row over all classes
(``kdcache.inspect.divergence``), of lattices at the nodes that both keep
(``kdcache.inspect.nodes``), of vectors the absolute error of their elements, of scores and of
the best hypotheses that of the log-probability (``kdcache.inspect.whole``). Beside that it is told
how far the best paths are apart (``kdcache.inspect.best_paths``).

Shapes: N frames, nodes or tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kdcache.codec import (
    HypothesesRecord,
    LatticeRecord,
    PosteriorRecord,
    ScoreRecord,
    VectorRecord,
)
from kdcache.errors import DamagedCacheError, SpecMismatchError
from kdcache.inspect.best_paths import best_paths
from kdcache.inspect.comparison import (
    BestPaths,
    Comparison,
    Figures,
    Overlap,
    TargetComparison,
    UtteranceComparison,
)
from kdcache.inspect.divergence import divergence, likeliest
from kdcache.inspect.nodes import shared_nodes
from kdcache.inspect.summary import summarise
from kdcache.inspect.tally import PERCENTILE, Tally
from kdcache.inspect.whole import best_distance, other_best, score_distance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.codec import Record
    from kdcache.store import Cache
    from kdcache.types import TargetSpec

NAMED = 5
"""Ids that are in one cache alone of which the comparison gives the names."""

_ROW = {"lattice": "node", "score": "utterance", "hypotheses": "utterance"}
"""What is compared, by the kind of record; else frames, or a decoder's tokens."""


def compare(
    a: Cache,
    b: Cache,
    utterances: int | None = None,
    update: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare what is committed in two caches.

    Args:
        a: the reference.
        b: the other.
        utterances: how many of those in common to read, evenly spaced in order of id; all if
            ``None``.
        update: told how many utterances are done, of how many.

    Raises:
        SpecMismatchError: nothing in common, or targets that do not fit together.
        DamagedCacheError: stored bytes are not what was written.
    """
    common = [key for key in a if key in b]
    targets = _check_caches(a, b, common)
    chosen = _pairs(a, b, _sample(common, utterances))
    found = [_Target(a, b, target) for target in targets]
    for done, pair in enumerate(chosen, 1):
        for target in found:
            target.add(pair)
        update(done, len(chosen))
    return Comparison(
        summarise(a),
        summarise(b),
        _overlap(a, b, len(common), len(chosen)),
        tuple(target.result() for target in found),
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    """An utterance, and its row in each cache."""

    id: str
    row_a: int
    row_b: int


def _pairs(a: Cache, b: Cache, ids: Sequence[str]) -> list[_Pair]:
    wanted = set(ids)
    rows_a, rows_b = (
        {key: row for row, key in enumerate(cache) if key in wanted} for cache in (a, b)
    )
    return [_Pair(key, rows_a[key], rows_b[key]) for key in ids]


def _overlap(a: Cache, b: Cache, common: int, compared: int) -> Overlap:
    only_a, only_b = ([k for k in x if k not in y] for x, y in ((a, b), (b, a)))
    named_a, named_b = tuple(only_a[:NAMED]), tuple(only_b[:NAMED])
    return Overlap(common, len(only_a), len(only_b), named_a, named_b, compared)


def _sample(ids: Sequence[str], count: int | None) -> list[str]:
    if count is None or count >= len(ids):
        return list(ids)
    return [ids[at] for at in np.linspace(0, len(ids) - 1, count).round().astype(int)]


def _check_caches(a: Cache, b: Cache, common: Sequence[str]) -> list[TargetSpec]:
    """The targets that both hold.

    Raises:
        SpecMismatchError: there are none, no utterances, or targets that do not fit.
    """
    if not common:
        raise SpecMismatchError(
            f"{a.location} ({len(a)} utterances) and {b.location} ({len(b)}) have none in common; "
            "compare caches of one corpus."
        )
    names = {target.name for target in b.spec.targets}
    shared = [target for target in a.spec.targets if target.name in names]
    if not shared:
        of_a, of_b = (", ".join(t.name for t in cache.spec.targets) for cache in (a, b))
        raise SpecMismatchError(
            f"no target is in both caches: {a.location} holds {of_a}; {b.location} holds {of_b}."
        )
    for target in shared:
        _check_target(a, b, target)
    return shared


def _check_target(a: Cache, b: Cache, target: TargetSpec) -> None:
    other = b.spec.target(target.name)
    if (target.kind, target.record) != (other.kind, other.record):
        raise SpecMismatchError(
            f"target {target.name!r} is {target.kind} ({target.record} records) in {a.location}, "
            f"but {other.kind} ({other.record} records) in {b.location}."
        )
    if target.record == "vector":
        return
    for what in ("vocab_size", "blank_id", "tokenizer"):
        ours, theirs = getattr(a.spec.teacher, what), getattr(b.spec.teacher, what)
        if ours != theirs:
            raise SpecMismatchError(
                f"target {target.name!r} is of other classes in {b.location} than in "
                f"{a.location}: its teacher has {what} {theirs}, the other {ours}; posteriors "
                "can be compared over one vocabulary only."
            )


@dataclass
class _Target:
    """One target of both caches, and the figures so far."""

    a: Cache
    b: Cache
    spec: TargetSpec
    rows_a: int = 0
    rows_b: int = 0
    rows: int = 0
    changed: int | None = None
    paths: BestPaths | None = None
    tally: Tally = field(default_factory=Tally)
    utterances: list[UtteranceComparison] = field(default_factory=list)

    @property
    def row(self) -> str:
        """What is compared."""
        usual = "token" if self.spec.kind == "decoder_logits" else "frame"
        return _ROW.get(self.spec.record, usual)

    def add(self, pair: _Pair) -> None:
        """Read and compare an utterance."""
        ours = self.a.read_target(pair.row_a, self.spec.name)
        theirs = self.b.read_target(pair.row_b, self.spec.name)
        self._check_fit(pair, ours, theirs)
        values, rows, changed = self._measured(pair, ours, theirs)
        if changed is not None:
            self.changed = (self.changed or 0) + changed
        self.tally.add(values)
        self.rows += rows
        self.rows_a += _extent(ours)
        self.rows_b += _extent(theirs)
        figures, paths = _figures(values, rows, changed), self._paths(ours, theirs)
        self.utterances.append(UtteranceComparison(pair.id, figures, paths))
        if paths is not None:
            self.paths = paths if self.paths is None else self.paths + paths

    def result(self) -> TargetComparison:
        """All figures."""
        tally, spec = self.tally, self.spec
        largest = tally.largest if tally.count else None
        figures = Figures(
            self.rows, tally.mean, tally.percentile, largest, tally.infinite, self.changed
        )
        return TargetComparison(
            name=spec.name,
            kind=spec.kind,
            record=spec.record,
            row=self.row,
            rows_a=self.rows_a,
            rows_b=self.rows_b,
            figures=figures,
            utterances=tuple(self.utterances),
            paths=self.paths,
        )

    def _paths(self, ours: Record, theirs: Record) -> BestPaths | None:
        teacher = self.a.spec.teacher
        blank = teacher.blank_id if self.spec.kind == "encoder_logits" else None
        return best_paths(ours, theirs, blank, teacher.frame_shift)

    def _measured(
        self, pair: _Pair, ours: Record, theirs: Record
    ) -> tuple[np.ndarray, int, int | None]:
        """What is told of each row, how many rows there are, and how many have changed."""
        if isinstance(ours, VectorRecord) and isinstance(theirs, VectorRecord):
            return _errors(ours, theirs), len(ours.values_TD), None
        if isinstance(ours, ScoreRecord) and isinstance(theirs, ScoreRecord):
            return score_distance(ours, theirs), 1, None
        if isinstance(ours, HypothesesRecord) and isinstance(theirs, HypothesesRecord):
            return best_distance(ours, theirs), 1, int(other_best(ours, theirs))
        first, second = self._posteriors(pair, ours, theirs)
        values = divergence(first, second, self.a.spec.teacher.vocab_size)
        return values, len(values), int((likeliest(first) != likeliest(second)).sum())

    def _posteriors(
        self, pair: _Pair, ours: Record, theirs: Record
    ) -> tuple[PosteriorRecord, PosteriorRecord]:
        """The rows of both, as many of one as of the other."""
        if isinstance(ours, LatticeRecord) and isinstance(theirs, LatticeRecord):
            blank = self.a.spec.teacher.blank_id
            assert blank is not None, "a lattice's teacher has a blank"
            return shared_nodes(ours, theirs, _tokens(self.a, pair.row_a), blank)
        assert isinstance(ours, PosteriorRecord)
        assert isinstance(theirs, PosteriorRecord)
        return ours, theirs

    def _check_fit(self, pair: _Pair, ours: Record, theirs: Record) -> None:
        """Raise SpecMismatchError unless both are of the same frames, and of the same tokens."""
        of_a, of_b = _size(ours), _size(theirs)
        if of_a != of_b:
            raise SpecMismatchError(
                f"target {self.spec.name!r} of utterance {pair.id!r} has {of_a} in "
                f"{self.a.location}, but {of_b} in {self.b.location}: they cannot be compared."
            )
        tokens = _tokens(self.a, pair.row_a)
        if self.row != "frame" and tokens != _tokens(self.b, pair.row_b):
            raise SpecMismatchError(
                f"utterance {pair.id!r} has other tokens in {self.b.location} than in "
                f"{self.a.location}: target {self.spec.name!r} cannot be compared."
            )
        if isinstance(ours, LatticeRecord) and ours.labels != len(tokens):
            raise DamagedCacheError(
                f"utterance {pair.id!r} has {len(tokens)} tokens, but a lattice of "
                f"{ours.labels} labels"
            )


def _tokens(cache: Cache, row: int) -> list[int]:
    tokens: list[int] = cache.catalogue["tokens"][row].as_py()
    return tokens


def _errors(ours: VectorRecord, theirs: VectorRecord) -> np.ndarray:
    """Absolute errors of all elements, in one row."""
    errors: np.ndarray = np.abs(ours.values_TD.astype(np.float64) - theirs.values_TD).reshape(-1)
    return errors


def _figures(values: np.ndarray, rows: int, changed: int | None) -> Figures:
    finite = values[np.isfinite(values)]
    infinite = len(values) - len(finite)
    if not len(finite):
        return Figures(rows, None, None, None, infinite, changed)
    p99 = float(np.percentile(finite, PERCENTILE, method="inverted_cdf"))
    return Figures(rows, float(finite.mean()), p99, float(finite.max()), infinite, changed)


def _extent(record: Record) -> int:
    """How many frames, nodes or tokens there are."""
    if isinstance(record, VectorRecord):
        return len(record.values_TD)
    if isinstance(record, PosteriorRecord):
        return len(record.logp_NC)
    if isinstance(record, ScoreRecord | HypothesesRecord):
        return 1
    frames, width = record.logp_TSC.shape[:2]
    return int(frames * width)


def _size(record: Record) -> str:
    """What has to be the same of both, in words."""
    if isinstance(record, VectorRecord):
        frames, width = record.values_TD.shape
        return f"{frames} frames of {width} values"
    if isinstance(record, PosteriorRecord):
        return f"{len(record.logp_NC)} rows"
    if isinstance(record, ScoreRecord | HypothesesRecord):
        return "one utterance"
    return f"{len(record.logp_TSC)} frames of {record.labels} labels"
