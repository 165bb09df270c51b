"""Posteriors of a transducer's nodes, collapsed to blank, next label, K more and rest.

With K = 0 these are the three classes of *Efficient knowledge distillation for RNN-T*
(arXiv 2011.06110); with large K they approach the full posterior.

All nodes are kept, or a band of them (``kdcache.lattice.band``): the few columns of each frame
that the teacher's own alignments pass.

The lattice T×(U+1)×V is never there as a whole: a few frames at a time are multiplied out,
reduced on the teacher's device, and forgotten.

Shapes: T encoder frames, U labels, S columns of a frame's window (U+1 of the whole lattice),
V vocabulary with blank, K more classes, C = 3+K classes of a node.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from kdcache.codec.records import LatticeRecord
from kdcache.lattice import BandRule
from kdcache.target.band import choose_band
from kdcache.target.checks import (
    check_ids,
    check_offered,
    check_rows,
    check_starts,
    given,
    parse_top_k,
)
from kdcache.target.collapse import LOGIT_BUDGET, log_probabilities, split, to_numpy
from kdcache.target.fidelity import fidelity_of, posterior_losses
from kdcache.target.nodes import chunks, next_labels
from kdcache.target.protocol import Reduced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from kdcache.codec.protocol import RecordCodec
    from kdcache.lattice import Band
    from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
    from kdcache.types import TeacherSpec


class Collapsed(NamedTuple):
    """A lattice of a few classes a node, before it is packed.

    Attributes:
        record: what is kept.
        spread_TS: what spreading the rest of each node evenly loses, float32, nats.
        band: which nodes are kept, where a band was asked for.
    """

    record: LatticeRecord
    spread_TS: np.ndarray
    band: Band | None


@dataclass(frozen=True, slots=True)
class LatticeTarget:
    """Keeps blank, next label, ``top_k`` more classes and the rest of each node.

    Attributes:
        top_k: K, how many classes are kept beside blank and the next label; 0 or more.
        epsilon: greatest share of an utterance's occupancy that may lie outside the band: the
            narrowest such band is kept. ``None`` and no ``width`` keep the whole lattice.
        width: S of the band of every utterance; with ``epsilon``, no band is wider. Where so
            many labels a frame are spoken that no such band leads through, the narrowest is.
    """

    top_k: int = 0
    epsilon: float | None = None
    width: int | None = None

    kind: ClassVar[str] = "lattice"
    record: ClassVar[str] = "lattice"

    def __post_init__(self) -> None:
        parse_top_k(self.top_k, 0)
        BandRule(self.epsilon, self.width)

    def settings(self) -> dict[str, Any]:
        """``{"top_k": …}``, with what the band is asked to be where it is asked for.

        A whole lattice is described as it was before there were bands, so that caches of then
        and now are of one spec.
        """
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless the teacher is a transducer."""
        check_offered(self.kind, teacher)

    def default_codec(self) -> dict[str, Any]:
        """One byte a class."""
        return {"name": "log8"}

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Pack the collapsed lattice; see ``Target.reduce``.

        Of a band, ``band_outside`` in the fidelity is the share of the occupancy beyond it.
        """
        return self.pack(self.collapse(output), codec)

    def collapse(self, output: TeacherOutput) -> Collapsed:
        """The first half of :meth:`reduce`, which no codec changes."""
        lattice = given(output.lattice, self.kind)
        check_rows(lattice.shape[0], output.frames, "frames of the lattice")
        rule = BandRule(self.epsilon, self.width)
        return collapse_lattice(lattice, output.tokens, self.top_k, rule)

    def pack(self, collapsed: Collapsed, codec: RecordCodec) -> Reduced:
        """The second half: pack, unpack and compare."""
        record, spread_TS, band = collapsed
        columns = codec.encode(record)
        decoded = codec.decode(columns)
        assert isinstance(decoded, LatticeRecord)
        check_ids(record.ids_TSK, decoded.ids_TSK)
        check_starts(record.starts_T, decoded.starts_T)
        losses = posterior_losses(record.logp_TSC, decoded.logp_TSC, spread_TS)
        fidelity = fidelity_of(losses)
        if band is not None:
            fidelity["band_outside"] = band.outside
        return Reduced(columns, fidelity, losses)


def collapse_lattice(
    lattice: LatticeLogits,
    tokens: Sequence[int],
    top_k: int,
    rule: BandRule | None = None,
    budget: int = LOGIT_BUDGET,
) -> Collapsed:
    """Collapse a lattice or the best band of it, a few frames at a time.

    Args:
        lattice: the teacher's.
        tokens: the U labels it is conditioned on.
        top_k: K.
        rule: how wide a band to keep; by default the whole lattice is kept.
        budget: logits that may be in memory at once; a single frame may have more.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or shapes that do not fit.
    """
    check_rows(lattice.shape[1], len(tokens) + 1, "columns of the lattice")
    check_rows(lattice.shape[0], lattice.shape[0], "frames of the lattice")
    band = None if rule is None or rule.is_whole else choose_band(lattice, tokens, rule, budget)
    if band is None or band.width == lattice.shape[1]:
        starts_T, columns_TS = None, None
    else:
        starts_T = band.starts_T
        start_T1 = torch.from_numpy(starts_T).to(lattice.decoder_UJ.device).long()[:, None]
        columns_TS = start_T1 + torch.arange(band.width, device=start_T1.device)
    logp_TSC, ids_TSK, spread_TS = _collapse(lattice, tokens, top_k, budget, columns_TS)
    return Collapsed(LatticeRecord(logp_TSC, ids_TSK, starts_T), spread_TS, band)


def _collapse(
    lattice: LatticeLogits,
    tokens: Sequence[int],
    top_k: int,
    budget: int,
    columns_TS: Tensor | None,
) -> Iterator[np.ndarray]:
    """Log-probabilities, ids and what is lost, as of :func:`collapse_nodes`, on the host."""
    parts = []
    for rows, logits_TSV in chunks(lattice, budget, columns_TS):
        next_TS = next_labels(tokens, lattice.blank, logits_TSV)[None]
        if columns_TS is not None:
            next_TS = next_TS[0, columns_TS[rows]]
        next_TS = next_TS.expand(logits_TSV.shape[:2])
        parts.append(collapse_nodes(logits_TSV, next_TS, lattice.blank, top_k))
    return map(to_numpy, zip(*parts, strict=True))


def collapse_nodes(
    logits_TSV: Tensor, next_TS: Tensor, blank: int, top_k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Collapse the nodes of some frames.

    Args:
        logits_TSV: any floating dtype.
        next_TS: int64 next label of each node; blank where there is none, at column u = U.
        blank: class id of blank.
        top_k: K.

    Returns:
        Log-probabilities float32 (T, S, 3+K), ids int32 (T, S, K), and what spreading the rest
        evenly loses, float32 (T, S).
    """
    logp_TSV = log_probabilities(logits_TSV)
    next_TS1, last_TS = next_TS[..., None], next_TS == blank
    blank_TS, label_TS = logp_TSV[..., blank], logp_TSV.gather(-1, next_TS1)[..., 0]
    label_TS = label_TS.masked_fill(last_TS, float("-inf"))
    others_TSV = logp_TSV.scatter(-1, next_TS1, float("-inf"))
    others_TSV[..., blank] = float("-inf")
    left_TS = logits_TSV.shape[-1] - 1 - (~last_TS).long()
    more = split(others_TSV, top_k, left_TS)
    special = (blank_TS[..., None], label_TS[..., None])
    logp_TSC = torch.cat([*special, more.logp_XK, more.rest_X[..., None]], dim=-1)
    return logp_TSC, more.ids_XK.int(), more.spread_X
