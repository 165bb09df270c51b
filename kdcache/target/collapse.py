"""From logits over the whole vocabulary to a few classes and the rest.

Log-probabilities are made in float32 whatever the teacher's dtype. The rest is the log-sum-exp
of the classes that are left, not 1 − Σ of those that are kept, which would cancel.

What keeping few classes loses is measured on the way. Let q be the full posterior, r the mass
of the n classes that are left, and let a reader spread the decoded rest evenly over them. By
the chain rule of the Kullback–Leibler divergence (Cover and Thomas, Elements of Information
Theory, theorem 2.5.3)

    KL(q ‖ spread) = KL(kept and rest ‖ decoded) + r · KL(q given left ‖ uniform over n).

The first term needs the few classes alone. The second is one number a row, computed here while
the logits are at hand, so that they need not be made twice.

Shapes: X any leading axes, V vocabulary with blank, K kept classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from kdcache.errors import TeacherOutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

LOGIT_BUDGET = 2**20
"""Logits that are in memory at once, unless a single row of nodes has more.

Each takes about 40 bytes while it is reduced. More is not faster: on a CPU they leave its cache,
and a GPU is busy with fewer."""

ABSENT = -1
"""Id of a class that does not exist."""


@dataclass(frozen=True, slots=True)
class Split:
    """The likeliest classes of each row, and what is left.

    Attributes:
        logp_XK: float32, by decreasing probability; −inf where there is no such class.
        ids_XK: int64; −1 where there is no such class.
        rest_X: float32 log-probability of all that is left; −inf where nothing is.
        spread_X: float32, r · KL(q given left ‖ uniform) in nats, at least 0.
    """

    logp_XK: Tensor
    ids_XK: Tensor
    rest_X: Tensor
    spread_X: Tensor


def log_probabilities(logits_XV: Tensor) -> Tensor:
    """float32 log-softmax over the last axis.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or a row of −inf alone.
    """
    logp_XV = logits_XV.float().log_softmax(-1)
    if bool(logp_XV.isnan().any()):
        raise TeacherOutputError("The teacher gave NaN or infinite logits.")
    return logp_XV


def split(logp_XV: Tensor, count: int, left_X: Tensor) -> Split:
    """Take the ``count`` likeliest classes out of each row.

    Args:
        logp_XV: float32; classes that are spoken for already have −inf.
        count: K.
        left_X: classes of each row that are not spoken for, int64.
    """
    ids_XK = likeliest(logp_XV, min(count, logp_XV.shape[-1]))
    logp_XK = logp_XV.gather(-1, ids_XK)
    remaining_XV = logp_XV.scatter(-1, ids_XK, float("-inf"))
    ids_XK = ids_XK.masked_fill(logp_XK == float("-inf"), ABSENT)
    rest_X = remaining_XV.logsumexp(-1).clamp(max=0.0)
    left_X = left_X - (ids_XK != ABSENT).sum(-1)
    missing = (0, count - ids_XK.shape[-1])
    return Split(
        logp_XK=pad(logp_XK, missing, value=float("-inf")),
        ids_XK=pad(ids_XK, missing, value=ABSENT),
        rest_X=rest_X,
        spread_X=unevenness(remaining_XV, rest_X, left_X),
    )


def to_numpy(parts: Sequence[Tensor]) -> np.ndarray:
    """Blocks of rows as one array on the host."""
    array: np.ndarray = torch.cat(list(parts)).cpu().numpy()
    return array


def likeliest(logp_XV: Tensor, count: int) -> Tensor:
    """Ids (X, K) of the ``count`` ≤ V likeliest classes, int64, likeliest first.

    Of equally likely classes the one with the smaller id is first: topk leaves ties open, and
    half-precision logits are full of them. So each class gets a key of its own, the float's
    bits in an order that integers keep, above the id counted backwards.
    """
    last = logp_XV.shape[-1] - 1
    bits_XV = (logp_XV + 0.0).view(torch.int32)  # + 0.0 turns −0.0 into 0.0
    ordered_XV = (bits_XV ^ ((bits_XV >> 31) & 0x7FFFFFFF)).long()
    backwards_V = torch.arange(last, -1, -1, device=logp_XV.device)
    keys_XK = ((ordered_XV << 32) + backwards_V).topk(count, dim=-1).values
    return last - (keys_XK & 0xFFFFFFFF)


def unevenness(logp_XV: Tensor, rest_X: Tensor, left_X: Tensor) -> Tensor:
    """r · KL(q given left ‖ uniform over n) = Σ q ln q − r ln r + r ln n, in nats."""
    mass_X = rest_X.exp()
    entropy_X = torch.special.entr(logp_XV.exp()).sum(-1)
    even_X = mass_X * left_X.clamp(min=1).log()
    uneven_X: Tensor = (even_X + torch.special.entr(mass_X) - entropy_X).clamp(min=0.0)
    return uneven_X
