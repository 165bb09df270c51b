"""How many classes each row of posteriors keeps: as many as its mass asks for.

Three rules, of which the strictest decides: at most ``top_k`` classes; no more than are needed
to reach a mass of ``top_p``; none less probable than ``min_p``. The likeliest class is always
kept. Most frames of a trained teacher are all but certain, and keep it alone.

``min_p`` is the rule that loses least for a given size: a class costs about as many bits
whatever its probability, and what leaving it to the rest loses grows with its probability, so
that one threshold for all frames is right. ``top_p`` bounds what is left in each frame.

Shapes: N rows, V vocabulary, K kept classes at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from kdcache.errors import ConfigError
from kdcache.target.checks import parse_top_k
from kdcache.target.collapse import ABSENT, Split, likeliest, unevenness
from kdcache.target.tail import log_weights, unlikeness

if TYPE_CHECKING:
    from kdcache.codec.tail import TailModel

ALL: Literal["all"] = "all"


@dataclass(frozen=True, slots=True)
class Keep:
    """The rules; ``None`` where one does not apply.

    Attributes:
        top_k: at least 1, or ``all``.
        top_p: above 0, at most 1.
        min_p: at least 0, below 1.
    """

    top_k: int | Literal["all"]
    top_p: float | None = None
    min_p: float | None = None

    @property
    def everything(self) -> bool:
        """Every class of every row is kept."""
        return self.top_k == ALL and self.top_p is None and self.min_p is None

    def width(self, logp_NV: Tensor) -> int:
        """No row keeps more classes than this."""
        vocabulary = logp_NV.shape[-1]
        width = vocabulary if self.top_k == ALL else min(self.top_k, vocabulary)
        if self.min_p is None or not len(logp_NV):
            return width
        probable = int((logp_NV.exp() >= self.min_p).sum(-1).max())
        return min(width, max(probable, 1))

    def mask(self, logp_NK: Tensor) -> Tensor:
        """Which of a row's likeliest classes, in order, are kept: bool (N, K)."""
        kept_NK = logp_NK > float("-inf")
        if self.min_p is not None:
            kept_NK &= logp_NK.exp() >= self.min_p
        if self.top_p is not None:
            p_NK = logp_NK.double().exp()
            kept_NK &= p_NK.cumsum(-1) - p_NK < self.top_p
        kept_NK[:, :1] = True
        return kept_NK


class Kept(NamedTuple):
    """Rows, collapsed.

    Attributes:
        split: what is kept and what is left.
        remaining_NV: log-probabilities, −inf for the classes that are kept.
    """

    split: Split
    remaining_NV: Tensor


def parse_keep(top_k: object, top_p: object, min_p: object) -> Keep:
    """The rules that a user wrote.

    Raises:
        ConfigError: one is out of range.
    """
    return Keep(
        top_k=ALL if top_k == ALL else parse_top_k(top_k, 1),
        top_p=_parse_share("top_p", top_p, above=True),
        min_p=_parse_share("min_p", min_p, above=False),
    )


def keep_classes(logp_NV: Tensor, keep: Keep, tail: TailModel | None = None) -> Kept:
    """The classes of each row that ``keep`` asks for, and what is left.

    Args:
        logp_NV: float32, normalised.
        keep: the rules.
        tail: how the rest will be spread; evenly if ``None``.
    """
    ids_NK = likeliest(logp_NV, keep.width(logp_NV))
    logp_NK = logp_NV.gather(-1, ids_NK)
    kept_NK = keep.mask(logp_NK)
    # Slots that are not kept repeat the likeliest class, which always is.
    taken_NK = ids_NK.where(kept_NK, ids_NK[:, :1])
    remaining_NV = logp_NV.scatter(-1, taken_NK, float("-inf"))
    rest_N = remaining_NV.logsumexp(-1).clamp(max=0.0)
    if tail is None:
        left_N = logp_NV.shape[-1] - kept_NK.sum(-1)
        spread_N = unevenness(remaining_NV, rest_N, left_N)
    else:
        kept_NV = torch.zeros_like(logp_NV, dtype=torch.bool).scatter(-1, taken_NK, True)
        spread_N = unlikeness(remaining_NV, kept_NV, rest_N, log_weights(tail, ids_NK[:, 0]))
    split = Split(
        logp_XK=logp_NK.masked_fill(~kept_NK, float("-inf")),
        ids_XK=ids_NK.masked_fill(~kept_NK, ABSENT),
        rest_X=rest_N,
        spread_X=spread_N,
    )
    return Kept(split, remaining_NV)


def _parse_share(name: str, given: Any, *, above: bool) -> float | None:
    if given is None:
        return None
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if number and (0 < given <= 1 if above else 0 <= given < 1):
        return float(given)
    bounds = "above 0 and at most 1" if above else "at least 0 and below 1"
    raise ConfigError(f"{name} is {given!r}; expected a probability {bounds}.")
