"""Posteriors of a sequence, a few classes and the rest: encoder frames, or decoder tokens.

``encoder_logits`` are what CoDERT (arXiv 2106.07734) distils: for a CTC teacher its own, for a
transducer those of an auxiliary CTC head.

What is kept of a row is either its likeliest classes (``kdcache.target.keep``), or random draws
from it (``kdcache.target.draw``).

Shapes: N encoder frames or tokens, V vocabulary, K kept classes at most, C = K+1 with rest.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from kdcache.codec.ids import check_vocabulary
from kdcache.codec.records import PosteriorRecord
from kdcache.codec.tail import TailModel
from kdcache.errors import ConfigError, UnsupportedTargetError
from kdcache.target.checks import check_ids, check_offered, check_rows, given
from kdcache.target.collapse import ABSENT, LOGIT_BUDGET, log_probabilities, to_numpy
from kdcache.target.draw import draw_classes, generator_for, record_of_draws
from kdcache.target.fidelity import fidelity_of, posterior_losses, sampling_losses
from kdcache.target.keep import ALL, Keep, keep_classes, parse_keep
from kdcache.target.protocol import Reduced

if TYPE_CHECKING:
    from kdcache.codec.protocol import RecordCodec
    from kdcache.target.tail import TailEstimator
    from kdcache.teacher.protocol import TeacherOutput
    from kdcache.types import TeacherSpec

DEFAULT_TOP_K = 8
MOST_SAMPLES = 4096


@dataclass(frozen=True)
class PosteriorTarget:
    """Keeps some classes of each row and the rest as one.

    Attributes:
        top_k: K, at least 1, or ``all``. Unless given, 8; without a bound where ``top_p`` or
            ``min_p`` is given.
        top_p: keep no more classes than reach this mass.
        min_p: keep no class less probable than this. About 0.8 of the codec's step, which is
            5e-5 for codec ``root`` of 7 bits, loses least for its size.
        samples: keep this many random draws instead, 1 to 4,096.
    """

    top_k: int | Literal["all"] | None = None
    top_p: float | None = None
    min_p: float | None = None
    samples: int | None = None

    kind: ClassVar[str]
    record: ClassVar[str] = "posterior"

    def __post_init__(self) -> None:
        adaptive = self.top_p is not None or self.min_p is not None
        if self.samples is not None:
            _check_samples(self.samples, alone=not adaptive and self.top_k is None)
            return
        if self.top_k is None:
            object.__setattr__(self, "top_k", ALL if adaptive else DEFAULT_TOP_K)
        parse_keep(self.top_k, self.top_p, self.min_p)

    @property
    def keep(self) -> Keep:
        """The rules by which classes are kept; draws are from all."""
        return Keep(ALL if self.top_k is None else self.top_k, self.top_p, self.min_p)

    def settings(self) -> dict[str, Any]:
        """Those that apply, such as ``{"top_k": 8}``; ``top_k`` alone as in earlier caches."""
        names = ("top_k", "top_p", "min_p", "samples")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless the teacher has these posteriors, K wide.

        Raises:
            ConfigError: its class ids do not fit into 16 bits.
        """
        check_offered(self.kind, teacher)
        check_vocabulary(teacher.vocab_size)
        if isinstance(self.top_k, int) and self.top_k > teacher.vocab_size:
            raise UnsupportedTargetError(
                f"Target {self.kind!r} keeps top_k {self.top_k} classes, but teacher "
                f"{teacher.name!r} has {teacher.vocab_size}; lower top_k."
            )

    def default_codec(self) -> dict[str, Any]:
        """What suits the settings: counts, half precision for all classes, rows of any length,
        or one byte a class."""
        if self.samples is not None:
            return {"name": "count", "samples": self.samples}
        if self.keep.everything:
            return {"name": "fp16"}
        adaptive = self.top_p is not None or self.min_p is not None
        return {"name": "root"} if adaptive else {"name": "log8"}

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Pack the posteriors; see ``Target.reduce``."""
        logits_NV = self.logits(output)
        if self.samples is not None:
            rng = generator_for(self.kind, output.utterance)
            record, logq_NC = sample_rows(logits_NV, self.samples, rng)
            columns, decoded = _pack(record, codec)
            losses = sampling_losses(decoded.logp_NC, logq_NC)
            return Reduced(columns, fidelity_of(losses), losses)
        tail = getattr(codec, "tail", None)
        tail = tail if isinstance(tail, TailModel) else None
        record, spread_N = collapse_rows(logits_NV, self.keep, tail=tail)
        columns, decoded = _pack(record, codec)
        losses = posterior_losses(record.logp_NC, decoded.logp_NC, spread_N)
        return Reduced(columns, fidelity_of(losses), losses)

    def observe(self, output: TeacherOutput, estimator: TailEstimator) -> None:
        """Tell ``estimator`` what these settings leave of an utterance's rows."""
        for block_NV in _blocks(self.logits(output), LOGIT_BUDGET):
            kept = keep_classes(log_probabilities(block_NV), self.keep)
            estimator.add(kept.remaining_NV, kept.split.ids_XK[:, 0])

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
    logits_NV: Tensor,
    keep: Keep | int,
    budget: int = LOGIT_BUDGET,
    tail: TailModel | None = None,
) -> tuple[PosteriorRecord, np.ndarray]:
    """Collapse rows of logits, a block of at most ``budget`` logits at a time.

    Args:
        logits_NV: any floating dtype.
        keep: which classes to keep; a number is ``top_k`` alone.
        budget: logits that may be in memory at once; a single row may have more.
        tail: how the rest will be spread; evenly if ``None``.

    Returns:
        The record, no wider than its widest row, and what spreading the rest of each row
        loses: float32 (N,), nats.

    Raises:
        TeacherOutputError: NaN or +inf among the logits.
    """
    keep = Keep(keep) if isinstance(keep, int) else keep
    if keep.everything:
        return _all_classes(logits_NV, budget)
    parts = []
    for block_NV in _blocks(logits_NV, budget):
        top = keep_classes(log_probabilities(block_NV), keep, tail).split
        slots = (top.logp_XK, top.ids_XK.int(), top.rest_X[:, None], top.spread_X)
        parts.append([to_numpy([tensor]) for tensor in slots])
    width = max(int((ids_NK != ABSENT).sum(-1).max(initial=0)) for _, ids_NK, _, _ in parts)
    logp_NK = np.concatenate([_fit(logp_NK, width, -np.inf) for logp_NK, _, _, _ in parts])
    ids_NK = np.concatenate([_fit(ids_NK, width, ABSENT) for _, ids_NK, _, _ in parts])
    rest_N1, spread_N = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
    return PosteriorRecord(np.concatenate([logp_NK, rest_N1], axis=1), ids_NK), spread_N


def sample_rows(
    logits_NV: Tensor, samples: int, rng: np.random.Generator, budget: int = LOGIT_BUDGET
) -> tuple[PosteriorRecord, np.ndarray]:
    """Draw from rows of logits, a block of at most ``budget`` logits at a time.

    Returns:
        The record, and the teacher's own log-probabilities in its slots, float32 (N, K+1).

    Raises:
        TeacherOutputError: NaN or +inf among the logits.
    """
    drawn, probable = [], []
    for block_NV in _blocks(logits_NV, budget):
        logp_NV = log_probabilities(block_NV)
        ids_NS = draw_classes(logp_NV, samples, rng)
        drawn.append(ids_NS)
        probable.append(to_numpy([logp_NV.gather(-1, torch.from_numpy(ids_NS).to(logp_NV.device))]))
    return record_of_draws(np.concatenate(drawn), np.concatenate(probable))


def _pack(record: PosteriorRecord, codec: RecordCodec) -> tuple[dict[str, np.ndarray], Any]:
    """Columns and what they decode to, of which the ids are checked.

    Classes that are as likely after decoding may have changed places.
    """
    columns = codec.encode(record)
    decoded = codec.decode(columns)
    assert isinstance(decoded, PosteriorRecord)
    kept_NK, found_NK = (
        np.take_along_axis(ids, np.lexsort((ids, -decoded.logp_NC[:, :-1]), axis=-1), -1)
        for ids in (record.ids_NK, decoded.ids_NK)
    )
    check_ids(kept_NK, found_NK)
    return columns, decoded


def _all_classes(logits_NV: Tensor, budget: int) -> tuple[PosteriorRecord, np.ndarray]:
    """Every class in order of id; the rest has nothing."""
    rows, vocabulary = logits_NV.shape
    logp_NV = to_numpy([log_probabilities(block_NV) for block_NV in _blocks(logits_NV, budget)])
    ids_NV = np.tile(np.arange(vocabulary, dtype=np.int32), (rows, 1))
    nothing_N1 = np.full((rows, 1), -np.inf, np.float32)
    record = PosteriorRecord(np.concatenate([logp_NV, nothing_N1], axis=1), ids_NV)
    return record, np.zeros(rows, np.float32)


def _blocks(logits_NV: Tensor, budget: int) -> tuple[Tensor, ...]:
    return torch.split(logits_NV, max(1, budget // logits_NV.shape[-1]))


def _fit(part: np.ndarray, width: int, value: float) -> np.ndarray:
    """As many slots a row as ``width``; those that are cut off are not used by any."""
    missing = max(0, width - part.shape[1])
    padded: np.ndarray = np.pad(part[:, :width], ((0, 0), (0, missing)), constant_values=value)
    return padded


def _check_samples(samples: object, *, alone: bool) -> None:
    if type(samples) is not int or not 1 <= samples <= MOST_SAMPLES:
        raise ConfigError(
            f"samples is {samples!r}; expected an integer from 1 to {MOST_SAMPLES:,}."
        )
    if not alone:
        raise ConfigError("samples are drawn from all classes: leave top_k, top_p and min_p out.")
