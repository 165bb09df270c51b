"""Packs posteriors of which every row keeps as many classes as it needs, in one column.

Notable features
- Nothing is spent on slots that a row does not use; ids and codes take the fewest bits that
  Golomb codes find for the utterance (``kdcache.codec.streams``).
- The likeliest class of a row is implied by the others where it has half of the mass or more,
  as in most frames; elsewhere it has a code like any other class.
- Packing and unpacking are array operations over the whole utterance.

Error. With p ∈ [lo, hi] as the scale says, an implied likeliest class is within 1 − Σ hi and
1 − Σ lo of the others. Rows with one that is not implied are divided by their sum, which is
within Σ lo and Σ hi.

Shapes: N frames or tokens, K kept classes at most, C = K+1 with rest, M kept classes of all rows
but the likeliest of each, L rows whose likeliest class has a code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.codec.ids import check_vocabulary
from kdcache.codec.logprob import parse_logp
from kdcache.codec.posterior import parse_posterior
from kdcache.codec.protocol import ColumnSpec
from kdcache.codec.records import PosteriorRecord
from kdcache.codec.scale import CountScale, RootScale
from kdcache.codec.streams import Rows, pack_rows, unpack_rows
from kdcache.codec.tail import TailModel, parse_tail
from kdcache.codec.unpadded import Unpadded
from kdcache.errors import ConfigError, DamagedCacheError, TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kdcache.codec.records import Record
    from kdcache.codec.scale import Scale
    from kdcache.codec.tail import Tail

_LARGEST_CODE = (1 << 16) - 1
_FLOAT32_SLACK = 2.0**-19


@dataclass(frozen=True)
class RaggedPosteriorCodec:
    """Column ``packed`` uint8: as many classes as each row keeps, entropy-coded.

    Ids are exact. Classes that are decoded as equally likely are put in order of id. Bound:
    from the scale, as the file's head derives.

    Attributes:
        scale: of the probabilities.
        tail: the model of the rest, which decoded records carry; a kind of one that is still
            to be estimated; or ``None``.
    """

    scale: Scale
    tail: Tail = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tail", parse_tail(self.tail))

    def columns(self) -> dict[str, ColumnSpec]:
        """One column."""
        return {"packed": ColumnSpec("uint8", 1)}

    def encode(self, record: Record) -> dict[str, np.ndarray]:
        """Header and streams.

        Raises:
            TeacherOutputError: shapes that do not fit, NaN or a positive log-probability,
                classes that are not in order of probability, or one twice in a row.
            ConfigError: ids that 16 bits do not hold, or a tail that is still to be estimated.
        """
        if isinstance(self.tail, str):
            raise ConfigError(f"tail {self.tail!r} is to be estimated from a teacher first")
        logp_NC, ids_NK = _parse(record)
        return {"packed": pack_rows(self._rows(logp_NC, ids_NK)[0])}

    def decode(self, columns: Mapping[str, np.ndarray]) -> PosteriorRecord:
        """Normalised float32 log-probabilities and int32 ids, as wide as the widest row.

        Raises:
            DamagedCacheError: the bytes are no such column.
        """
        rows = self.unpack(columns)
        logp_NC = np.empty((len(rows.count_N), rows.kept + 1), np.float32)
        ids_NK = np.empty((len(rows.count_N), rows.kept), np.int32)
        rows.write(logp_NC, ids_NK)
        return PosteriorRecord(logp_NC, ids_NK, rows.tail)

    def unpack(self, columns: Mapping[str, np.ndarray]) -> Unpadded:
        """The same, each row as wide as it is.

        Raises:
            DamagedCacheError: the bytes are no such column.
        """
        rows = unpack_rows(columns["packed"])
        p_M, rest_N = self._probability(rows.code_M), self._probability(rows.rest_N)
        others_N, coded_N = _others(rows, p_M, rest_N)
        if int(coded_N.sum()) != len(rows.lead_L):
            raise DamagedCacheError(f"{len(rows.lead_L)} likeliest classes do not fit the others")
        lead_N = np.where(rows.count_N > 0, 1.0 - others_N, 0.0)
        lead_N[coded_N] = self._probability(rows.lead_L)
        log_sum_N = np.log(lead_N + others_N)
        with np.errstate(divide="ignore"):
            lead_N, rest_N = np.log(lead_N) - log_sum_N, np.log(rest_N) - log_sum_N
        order_M = _order(rows.row_M, _LARGEST_CODE - rows.code_M)
        logp_M = (self._logp[rows.code_M[order_M]] - log_sum_N[rows.row_M]).astype(np.float32)
        tail = self.tail if isinstance(self.tail, TailModel) else None
        return Unpadded(
            rows.count_N, rows.first_N, lead_N, rest_N, rows.row_M, rows.id_M[order_M], logp_M, tail
        )

    def error_bound(self, record: Record) -> np.ndarray:
        """float32 (N, K+1)."""
        logp_NC, ids_NK = _parse(record)
        rows, coded_N = self._rows(logp_NC, ids_NK)
        mass_NC = ~np.isneginf(logp_NC)
        low_NC, high_NC = np.zeros((2, *logp_NC.shape))
        low_NC[mass_NC], high_NC[mass_NC] = self.scale.interval(logp_NC[mass_NC])
        implied_N = ~coded_N & (rows.count_N > 0)
        if ids_NK.shape[1]:
            most_N = 1.0 - low_NC[:, 1:].sum(-1)
            least_N = 1.0 - high_NC[:, 1:].sum(-1)
            low_NC[implied_N, 0] = least_N[implied_N].clip(0.5)
            high_NC[implied_N, 0] = most_N[implied_N].clip(0.5)
        return _bound(logp_NC, low_NC, high_NC, implied_N)

    def to_dict(self) -> dict[str, Any]:
        """The scale's settings, and the tail where there is one."""
        if self.tail is None:
            return self.scale.to_dict()
        tail = self.tail.to_dict() if isinstance(self.tail, TailModel) else self.tail
        return {**self.scale.to_dict(), "tail": tail}

    def _rows(self, logp_NC: np.ndarray, ids_NK: np.ndarray) -> tuple[Rows, np.ndarray]:
        """The rows in codes, and which of them have a code for their likeliest class."""
        count_N = np.count_nonzero(logp_NC[:, :-1] > -np.inf, axis=-1)
        row_J, slot_J = _used_slots(count_N)
        codes_J, ids_J = self._codes(logp_NC[row_J, slot_J]), ids_NK[row_J, slot_J]
        other_M = np.flatnonzero(slot_J)
        order_M = other_M[_order(row_J[other_M], ids_J[other_M])]
        first_N, lead_N = np.zeros((2, len(count_N)), np.int64)
        first_N[count_N > 0], lead_N[count_N > 0] = ids_J[slot_J == 0], codes_J[slot_J == 0]
        rest_N = self._codes(logp_NC[:, -1])
        rows = Rows(
            count_N, first_N, rest_N, row_J[other_M], ids_J[order_M], codes_J[order_M], lead_N
        )
        p_M, p_rest_N = self._probability(rows.code_M), self._probability(rest_N)
        _, coded_N = _others(rows, p_M, p_rest_N)
        return rows._replace(lead_L=lead_N[coded_N]), coded_N

    def _codes(self, logp: np.ndarray) -> np.ndarray:
        """int64 codes of float32 log-probabilities; 0 of −inf."""
        codes = np.zeros(logp.shape, np.int64)
        there = logp > -np.inf
        codes[there] = self.scale.codes(logp[there].astype(np.float64))
        return codes

    @cached_property
    def _table(self) -> np.ndarray:
        return self.scale.probability

    @cached_property
    def _logp(self) -> np.ndarray:
        with np.errstate(divide="ignore"):
            logp: np.ndarray = np.log(self._table)
        return logp

    def _probability(self, codes: np.ndarray) -> np.ndarray:
        if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < len(self._table):
            raise DamagedCacheError("a packed probability is off the scale")
        found: np.ndarray = self._table[codes]
        return found


def root_codec(bits: int = 7, tail: Tail = None) -> RaggedPosteriorCodec:
    """Codec ``root``; the settings are those of ``RootScale`` and of the codec."""
    return RaggedPosteriorCodec(RootScale(bits), tail)


def count_codec(samples: int = 50) -> RaggedPosteriorCodec:
    """Codec ``count``; the setting is that of ``CountScale``. Draws leave no rest to model."""
    return RaggedPosteriorCodec(CountScale(samples))


def _parse(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """float32 log-probabilities (N, K+1) and int64 ids (N, K), checked."""
    record = parse_posterior(record)
    logp_NC, ids_NK = parse_logp(record.logp_NC), np.asarray(record.ids_NK)
    if (logp_NC[:, 1:-1] > logp_NC[:, :-2]).any():
        raise TeacherOutputError(
            "expected the classes of each row by decreasing probability, got another order; all "
            "classes in order of id are packed by fp16 or log8"
        )
    used_NK = logp_NC[:, :-1] > -np.inf
    if int(ids_NK.min(initial=0, where=used_NK)) < 0:
        raise TeacherOutputError("expected an id for every class of some probability, got −1")
    check_vocabulary(int(ids_NK.max(initial=0, where=used_NK)) + 1)
    return logp_NC, ids_NK


def _used_slots(count_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and place in it of every class that is there: a row's first ``count_N``."""
    row_J = np.repeat(np.arange(len(count_N)), count_N)
    starts_N = np.cumsum(count_N) - count_N
    return row_J, np.arange(len(row_J)) - starts_N[row_J]


def _order(row_M: np.ndarray, key_M: np.ndarray) -> np.ndarray:
    """The order by row, then by a key of 16 bits; equals stay as they are."""
    # numpy sorts 16 bits stably in two passes, three times faster than one number of both.
    order_M = np.argsort(key_M.astype(np.uint16), kind="stable")
    rows_M = row_M[order_M].astype(np.min_scalar_type(len(row_M) and int(row_M[-1])))
    found_M: np.ndarray = order_M[np.argsort(rows_M, kind="stable")]
    return found_M


def _others(rows: Rows, p_M: np.ndarray, rest_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mass beside each row's likeliest class, and where that is too much to imply it.

    Both sides of the codec come here with equal arrays, so that they agree to the last bit.
    """
    others_N = rest_N + np.bincount(rows.row_M, p_M, len(rest_N))
    return others_N, (others_N > 0.5) & (rows.count_N > 0)


def _bound(
    logp_NC: np.ndarray, low_NC: np.ndarray, high_NC: np.ndarray, implied_N: np.ndarray
) -> np.ndarray:
    """Largest error in nats where probabilities are within these limits before dividing."""
    mass_NC = ~np.isneginf(logp_NC)
    given_NC = np.where(mass_NC, logp_NC, 0.0)
    least_N1 = np.where(implied_N, 1.0, low_NC.sum(-1))[:, None]
    most_N1 = np.where(implied_N, 1.0, high_NC.sum(-1))[:, None]
    with np.errstate(divide="ignore"):
        above_NC = np.log(high_NC / least_N1) - given_NC
        below_NC = given_NC - np.log(low_NC / most_N1)
    bound_NC = np.maximum(above_NC, below_NC) + _FLOAT32_SLACK * (1.0 - given_NC)
    return np.where(mass_NC, bound_NC, 0.0).astype(np.float32)
