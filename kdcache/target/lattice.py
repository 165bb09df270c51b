"""Posteriors of a transducer's nodes, collapsed to blank, next label, K more and rest.

With K = 0 these are the three classes of *Efficient knowledge distillation for RNN-T*
(arXiv 2011.06110); with large K they approach the full posterior.

The lattice T×(U+1)×V is never there as a whole: a few frames at a time are multiplied out,
reduced on the teacher's device, and forgotten.

Shapes: T encoder frames, U labels, V vocabulary with blank, J joint width, K more classes, C =
3+K classes of a node.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from kdcache.codec.records import LatticeRecord
from kdcache.errors import TeacherOutputError
from kdcache.target.checks import check_ids, check_offered, check_rows, given, parse_top_k
from kdcache.target.collapse import LOGIT_BUDGET, log_probabilities, split, to_numpy
from kdcache.target.fidelity import posterior_fidelity
from kdcache.target.protocol import Reduced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from kdcache.codec.protocol import RecordCodec
    from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
    from kdcache.types import TeacherSpec


@dataclass(frozen=True, slots=True)
class LatticeTarget:
    """Keeps blank, next label, ``top_k`` more classes and the rest of each node.

    Attributes:
        top_k: K, how many classes are kept beside blank and the next label; 0 or more.
    """

    top_k: int = 0

    kind: ClassVar[str] = "lattice"
    record: ClassVar[str] = "lattice"

    def __post_init__(self) -> None:
        parse_top_k(self.top_k, 0)

    def settings(self) -> dict[str, Any]:
        """``{"top_k": …}``."""
        return asdict(self)

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless the teacher is a transducer."""
        check_offered(self.kind, teacher)

    def default_codec(self) -> dict[str, Any]:
        """One byte a class."""
        return {"name": "log8"}

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Pack the collapsed lattice; see ``Target.reduce``."""
        lattice = given(output.lattice, self.kind)
        record, spread_TS = collapse_lattice(lattice, output.tokens, self.top_k)
        check_rows(record.logp_TSC.shape[0], output.frames, "frames of the lattice")
        columns = codec.encode(record)
        decoded = codec.decode(columns)
        assert isinstance(decoded, LatticeRecord)
        check_ids(record.ids_TSK, decoded.ids_TSK)
        fidelity = posterior_fidelity(record.logp_TSC, decoded.logp_TSC, spread_TS)
        return Reduced(columns, fidelity)


def collapse_lattice(
    lattice: LatticeLogits, tokens: Sequence[int], top_k: int, budget: int = LOGIT_BUDGET
) -> tuple[LatticeRecord, np.ndarray]:
    """Collapse a whole lattice, a few frames at a time.

    Args:
        lattice: the teacher's.
        tokens: the U labels it is conditioned on.
        top_k: K.
        budget: logits that may be in memory at once; a single frame may have more.

    Returns:
        The record, and what spreading the rest of each node evenly loses: float32 (T, U+1),
        nats.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or shapes that do not fit.
    """
    check_rows(lattice.shape[1], len(tokens) + 1, "columns of the lattice")
    check_rows(lattice.shape[0], lattice.shape[0], "frames of the lattice")
    parts = [
        collapse_nodes(logits_TUV, tokens, lattice.blank, top_k)
        for logits_TUV in _chunks(lattice, budget)
    ]
    logp_TSC, ids_TSK, spread_TS = map(to_numpy, zip(*parts, strict=True))
    return LatticeRecord(logp_TSC, ids_TSK), spread_TS


def collapse_nodes(
    logits_TUV: Tensor, tokens: Sequence[int], blank: int, top_k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Collapse the nodes of some frames.

    Returns:
        Log-probabilities float32 (T, U+1, 3+K), ids int32 (T, U+1, K), and what spreading the
        rest evenly loses, float32 (T, U+1).
    """
    vocabulary = logits_TUV.shape[-1]
    if any(not 0 <= token < vocabulary or token == blank for token in tokens):
        raise TeacherOutputError(
            f"The teacher's tokens are no labels of its lattice of {vocabulary} classes."
        )
    logp_TUV = log_probabilities(logits_TUV)
    # The last column has no next label: blank stands in, to be taken out twice.
    next_U1 = torch.tensor([*tokens, blank], device=logp_TUV.device)[:, None]
    next_TU1 = next_U1.expand(logp_TUV.shape[0], -1, -1)
    blank_TU, label_TU = logp_TUV[..., blank], logp_TUV.gather(-1, next_TU1)[..., 0]
    label_TU[:, -1] = float("-inf")
    others_TUV = logp_TUV.scatter(-1, next_TU1, float("-inf"))
    others_TUV[..., blank] = float("-inf")
    left_U = vocabulary - 1 - (next_U1[:, 0] != blank).long()
    more = split(others_TUV, top_k, left_U.expand(blank_TU.shape))
    special = (blank_TU[..., None], label_TU[..., None])
    logp_TSC = torch.cat([*special, more.logp_XK, more.rest_X[..., None]], dim=-1)
    return logp_TSC, more.ids_XK.int(), more.spread_X


def _chunks(lattice: LatticeLogits, budget: int) -> Iterator[Tensor]:
    """Logits (t, U+1, V) of a few frames at a time: one, to see V, then as many as fit.

    The joint network's activations (t, U+1, J) count as well, where they are the wider.
    """
    frames, columns = lattice.shape
    start, count = 0, 1
    while start < frames:
        logits_TUV = lattice.rows(start, min(start + count, frames))
        yield logits_TUV
        start += count
        width = max(logits_TUV.shape[-1], lattice.encoder_TJ.shape[-1])
        count = max(1, budget // (columns * width))
