"""Posteriors of a sequence, top-k and rest: encoder frames, or an attention decoder's tokens.

``encoder_logits`` are what CoDERT (arXiv 2106.07734) distils: for a CTC teacher its own, for a
transducer those of an auxiliary CTC head.

Shapes: N encoder frames or tokens, V vocabulary, K kept classes, C = K+1 with rest.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from kdcache.codec.records import PosteriorRecord
from kdcache.errors import UnsupportedTargetError
from kdcache.target.checks import check_ids, check_offered, check_rows, given, parse_top_k
from kdcache.target.collapse import LOGIT_BUDGET, log_probabilities, split, to_numpy
from kdcache.target.fidelity import posterior_fidelity
from kdcache.target.protocol import Reduced

if TYPE_CHECKING:
    import numpy as np

    from kdcache.codec.protocol import RecordCodec
    from kdcache.teacher.protocol import TeacherOutput
    from kdcache.types import TeacherSpec


@dataclass(frozen=True)
class PosteriorTarget:
    """Keeps the ``top_k`` likeliest classes of each row and the rest.

    Attributes:
        top_k: K, at least 1.
    """

    top_k: int = 8

    kind: ClassVar[str]
    record: ClassVar[str] = "posterior"

    def __post_init__(self) -> None:
        parse_top_k(self.top_k, 1)

    def settings(self) -> dict[str, Any]:
        """``{"top_k": …}``."""
        return asdict(self)

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless the teacher has these posteriors, K wide."""
        check_offered(self.kind, teacher)
        if self.top_k > teacher.vocab_size:
            raise UnsupportedTargetError(
                f"Target {self.kind!r} keeps top_k {self.top_k} classes, but teacher "
                f"{teacher.name!r} has {teacher.vocab_size}; lower top_k."
            )

    def default_codec(self) -> dict[str, Any]:
        """One byte a class."""
        return {"name": "log8"}

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Pack the posteriors; see ``Target.reduce``."""
        record, spread_N = collapse_rows(self.logits(output), self.top_k)
        columns = codec.encode(record)
        decoded = codec.decode(columns)
        assert isinstance(decoded, PosteriorRecord)
        check_ids(record.ids_NK, decoded.ids_NK)
        return Reduced(columns, posterior_fidelity(record.logp_NC, decoded.logp_NC, spread_N))

    @abstractmethod
    def logits(self, output: TeacherOutput) -> Tensor:
        """The logits (N, V) that this target is made of."""


class EncoderLogitsTarget(PosteriorTarget):
    """Posteriors of encoder frames."""

    kind = "encoder_logits"

    def logits(self, output: TeacherOutput) -> Tensor:
        """(T, V)."""
        logits_TV = given(output.frame_logits_TV, self.kind)
        check_rows(logits_TV.shape[0], output.frames, "frames of logits")
        return logits_TV


class DecoderLogitsTarget(PosteriorTarget):
    """Teacher-forced posteriors of tokens and of the end."""

    kind = "decoder_logits"

    def logits(self, output: TeacherOutput) -> Tensor:
        """(U+1, V)."""
        logits_UV = given(output.token_logits_UV, self.kind)
        check_rows(logits_UV.shape[0], len(output.tokens) + 1, "tokens of logits")
        return logits_UV


def collapse_rows(
    logits_NV: Tensor, top_k: int, budget: int = LOGIT_BUDGET
) -> tuple[PosteriorRecord, np.ndarray]:
    """Collapse rows of logits, a block of at most ``budget`` logits at a time.

    Returns:
        The record, and what spreading the rest of each row evenly loses: float32 (N,), nats.

    Raises:
        TeacherOutputError: NaN or +inf among the logits.
    """
    parts = []
    vocabulary = logits_NV.shape[-1]
    for block_NV in torch.split(logits_NV, max(1, budget // vocabulary)):
        left_N = torch.full(block_NV.shape[:1], vocabulary, device=block_NV.device)
        top = split(log_probabilities(block_NV), top_k, left_N)
        kept_NC = torch.cat([top.logp_XK, top.rest_X[:, None]], dim=-1)
        parts.append((kept_NC, top.ids_XK.int(), top.spread_X))
    logp_NC, ids_NK, spread_N = map(to_numpy, zip(*parts, strict=True))
    return PosteriorRecord(logp_NC, ids_NK), spread_N
