"""Knowledge distillation over frames or tokens: kept classes, and the rest.

The explicit rest class ("ghost") matters: a student that fits only the k kept probabilities,
renormalised, is taught a distribution that is too sharp. With the rest, the loss is the exact
KL between both distributions after the same classes of each are joined, a lower bound of the
full KL (data processing inequality), zero where the student is the teacher. The other choice
spreads the rest over the classes that are left (``kdcache.loss.spread``).

Shapes: B batch, N frames or tokens, V vocabulary, K kept class ids at most, C = K+1 classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import torch

from kdcache.errors import ConfigError, InputError
from kdcache.lattice import class_log_probs, node_mask
from kdcache.lattice.lengths import parse_lengths
from kdcache.lattice.reduction import Reduction, reduce_utterances, unknown_choice
from kdcache.loss.divergence import class_kl
from kdcache.loss.normalise import SequenceNormalise, normalise_sequence
from kdcache.loss.spread import spread_kl

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import PosteriorBatch

Rest = Literal["joined", "spread"]
"""``joined``: all classes that are left as one; ``spread``: each with its share."""


def posterior_kl(
    logits_BNV: Tensor,
    target: PosteriorBatch,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    normalise: SequenceNormalise = "none",
    rest: Rest = "joined",
) -> Tensor:
    """KL of the teacher's kept classes and rest against the student's.

    Args:
        logits_BNV: the student's, any floating dtype; it may be padded further than the target.
        target: the teacher's classes of each frame or token, and the lengths.
        temperature: τ, by which both models' logits are divided, softmax(z / τ). Other than 1 the
            target must keep every class: what a sum of classes is at τ cannot be known from
            what it is at 1. The gradient by the student's logits is (p − q) / τ.
        reduction: ``none`` for (B,), ``sum`` or ``mean`` over utterances.
        normalise: nats per utterance (``none``) or per frame or token (``length``).
        rest: ``joined``, one class; or ``spread`` over the classes that are left, by the
            target's model of the rest where it has one, else evenly.

    Returns:
        float64 for float64 logits, else float32. The gradient is zero in padding. Classes of
        teacher probability 0 contribute nothing; NaN within a length makes its utterance NaN.

    Raises:
        InputError: student and target do not fit.
        ConfigError: ``temperature`` is not above 0, or not 1 where classes were left out; or
            ``reduction``, ``normalise`` or ``rest`` is unknown.
    """
    _check(logits_BNV, target)
    if temperature != 1.0:
        logits_BNV, target = _tempered(logits_BNV, target, temperature)
    match rest:
        case "joined":
            loss_B = _joined_kl(logits_BNV, target)
        case "spread":
            loss_B = spread_kl(logits_BNV, target)
        case _:
            raise ConfigError(unknown_choice("rest", rest, get_args(Rest)))
    loss_B = normalise_sequence(loss_B, target.lengths_B, normalise)
    return reduce_utterances(loss_B, reduction)


def _joined_kl(logits_BNV: Tensor, target: PosteriorBatch) -> Tensor:
    logits_BN1V, ids_BN1K = logits_BNV[:, :, None], target.ids_BNK[:, :, None]
    lengths_B, no_labels_B = target.lengths_B, torch.zeros_like(target.lengths_B)
    logp_BNC = class_log_probs(logits_BN1V, ids_BN1K, lengths_B, no_labels_B)[:, :, 0]
    real_BN1 = node_mask(lengths_B, no_labels_B, logp_BNC.shape[1], 1)
    teacher_BNC = target.logp_BNC.masked_fill(~real_BN1, -torch.inf)
    return class_kl(teacher_BNC, logp_BNC).sum(1)


def _tempered(
    logits_BNV: Tensor, target: PosteriorBatch, temperature: float
) -> tuple[Tensor, PosteriorBatch]:
    """Both sides at another temperature: softmax(ln q / τ) is softmax(z / τ) of the teacher."""
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}; expected a number above 0.")
    padding_BN = ~node_mask(target.lengths_B, target.lengths_B * 0, target.ids_BNK.shape[1], 1)
    there_BNK = (target.ids_BNK >= 0) | padding_BN
    if target.ids_BNK.shape[2] != logits_BNV.shape[2] or not bool(there_BNK.all()):
        raise ConfigError(
            f"temperature is {temperature}; expected 1, because this target keeps some classes and "
            "the sum of the others, whose sum at another temperature cannot be had from it. "
            "Extract the target with `top_k: all`."
        )
    wide = torch.promote_types(logits_BNV.dtype, torch.float32)
    kept_BNK = (target.logp_BNC[..., :-1] / temperature).log_softmax(-1)
    logp_BNC = torch.cat([kept_BNK, torch.full_like(kept_BNK[..., :1], -torch.inf)], -1)
    return logits_BNV.to(wide) / temperature, replace(target, logp_BNC=logp_BNC)


def _check(logits_BNV: Tensor, target: PosteriorBatch) -> None:
    classes, ids = target.logp_BNC.shape, target.ids_BNK.shape
    if logits_BNV.dim() != 3 or len(classes) != 3 or classes[:2] != ids[:2]:
        raise InputError(
            f"Logits have shape {tuple(logits_BNV.shape)}, the target {tuple(classes)} with ids "
            f"{tuple(ids)}; expected (batch, length, vocabulary), (batch, length, K + 1) and "
            "(batch, length, K)."
        )
    if classes[2] != ids[2] + 1:
        raise InputError(
            f"The target has {classes[2]} classes for {ids[2]} ids; expected one more than ids, "
            "the rest."
        )
    parse_lengths("lengths_B", target.lengths_B, classes[0], 0, classes[1])
