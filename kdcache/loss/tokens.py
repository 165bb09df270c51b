"""Cross-entropy of an attention decoder: the labels, then the end.

    L = −Σ_{u ≤ U} Σ_v r_u(v) ln p_u(v),   r_u = (1 − ε) · [v = y_u] + ε / V

over U+1 tokens, of which the last is the end (label smoothing: Szegedy et al. 2016, arXiv
1512.00567, section 7). With ε = 0 it is −ln P(y | x) by the chain rule.

Shapes: B batch, U labels, V vocabulary with the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, pad

from kdcache.errors import InputError
from kdcache.lattice.lengths import parse_lengths
from kdcache.lattice.reduction import Reduction, reduce_utterances

if TYPE_CHECKING:
    from torch import Tensor


def token_cross_entropy(
    logits_BUV: Tensor,
    labels_BU: Tensor,
    label_lengths_B: Tensor,
    end: int,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy of each utterance's labels and of its end, nats summed over U+1 tokens.

    Args:
        logits_BUV: (B, U+1, V) teacher-forced, any floating dtype; it may be padded further than
            the labels.
        labels_BU: int64; what lies beyond a length is ignored.
        label_lengths_B: U of each utterance.
        end: class id of the end.
        label_smoothing: ε, from 0 to below 1.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.

    Returns:
        float64 for float64 logits, else float32. The gradient is zero in padding; NaN within a
        length makes its utterance NaN.

    Raises:
        InputError: shapes, lengths or class ids do not fit.
        ConfigError: ``reduction`` is unknown.
    """
    _check(logits_BUV, labels_BU, label_lengths_B)
    places_U = torch.arange(logits_BUV.shape[1], device=logits_BUV.device)
    real_BU = places_U <= label_lengths_B[:, None]
    tokens_BU = pad(labels_BU, (0, max(0, len(places_U) - labels_BU.shape[1])), value=end)
    tokens_BU = tokens_BU[:, : len(places_U)].where(places_U != label_lengths_B[:, None], end)
    _check_classes(tokens_BU[real_BU], logits_BUV.shape[-1])
    logits_BUV = logits_BUV.masked_fill(~real_BU[..., None], 0.0)
    logits_BUV = logits_BUV if logits_BUV.dtype == torch.float64 else logits_BUV.float()
    values_BU = cross_entropy(
        logits_BUV.transpose(1, 2),
        tokens_BU.where(real_BU, end),
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return reduce_utterances(values_BU.masked_fill(~real_BU, 0.0).sum(1), reduction)


def _check(logits_BUV: Tensor, labels_BU: Tensor, label_lengths_B: Tensor) -> None:
    if logits_BUV.dim() != 3 or labels_BU.shape[:1] != logits_BUV.shape[:1]:
        raise InputError(
            f"Logits have shape {tuple(logits_BUV.shape)} and labels {tuple(labels_BU.shape)}; "
            "expected (batch, labels + 1, vocabulary) and (batch, labels)."
        )
    room = min(logits_BUV.shape[1] - 1, labels_BU.shape[1])
    parse_lengths("label_lengths_B", label_lengths_B, len(labels_BU), 0, room)


def _check_classes(tokens_N: Tensor, vocab: int) -> None:
    wrong = tokens_N[(tokens_N < 0) | (tokens_N >= vocab)]
    if len(wrong):
        raise InputError(
            f"Class id {int(wrong[0])} is outside the vocabulary of {vocab}; give the student the "
            "tokenizer that made the labels."
        )
