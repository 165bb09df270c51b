"""log P(y | x): how probable a teacher finds a label sequence, over all of its alignments.

A transducer's by the forward recursion over its lattice (Graves 2012, eq. 16 to 17), CTC's by
that of Graves et al. 2006 ("Connectionist temporal classification", eq. 6 to 8), an attention
decoder's by the chain rule, which has one path. All three sum in float64; logits are normalised
a block at a time, in float32.

Shapes: T encoder frames, U labels (a node axis has U+1 entries), V vocabulary, C distinct
classes that a sequence needs, N sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from kdcache.errors import TeacherOutputError
from kdcache.lattice import forward_backward
from kdcache.target.arcs import arcs_of
from kdcache.target.checks import check_rows
from kdcache.target.collapse import LOGIT_BUDGET, log_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.teacher.protocol import LatticeLogits


_AT_ONCE = 16
"""Sequences whose forward variables are in memory at once."""


def lattice_likelihood(
    lattice: LatticeLogits, tokens: Sequence[int], budget: int = LOGIT_BUDGET
) -> float:
    """log P of the labels that a lattice is conditioned on, in nats; −inf if it has no path.

    Args:
        lattice: a transducer's.
        tokens: its U labels.
        budget: logits that may be in memory at once; a single frame may have more.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or shapes that do not fit.
    """
    check_rows(lattice.shape[1], len(tokens) + 1, "columns of the lattice")
    arcs = arcs_of(lattice, tokens, budget)
    frames, columns = arcs[0].shape
    lengths = (torch.tensor([n], device=arcs[0].device) for n in (frames, columns - 1))
    found = forward_backward(*(arc_TU[None] for arc_TU in arcs), *lengths)
    return float(found.log_likelihood_B)


def ctc_likelihoods(
    logits_TV: Tensor,
    sequences: Sequence[Sequence[int]],
    blank: int,
    budget: int = LOGIT_BUDGET,
) -> list[float]:
    """log P of each label sequence, in nats; −inf where it needs more frames than there are.

    Args:
        logits_TV: of T ≥ 1 frames, any floating dtype.
        sequences: N of them, at least one; none of their ids is blank.
        blank: class id of blank.
        budget: logits that may be in memory at once; a single row may have more.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or ids that are no labels.
    """
    vocabulary = logits_TV.shape[-1]
    labels = sorted({token for tokens in sequences for token in tokens})
    if blank in labels or any(not 0 <= label < vocabulary for label in labels):
        raise TeacherOutputError(f"The tokens are no labels of {vocabulary} classes with blank.")
    classes_C = torch.tensor([blank, *labels], device=logits_TV.device)
    logp_TC = _log_probabilities_of(logits_TV, classes_C, budget)
    column = {label: place for place, label in enumerate(labels, 1)}
    spelt = [[column[token] for token in tokens] for tokens in sequences]
    groups = (spelt[at : at + _AT_ONCE] for at in range(0, len(spelt), _AT_ONCE))
    return [score for group in groups for score in _ctc_forward(logp_TC.double(), group)]


def token_likelihood(logits_UV: Tensor, tokens: Sequence[int], end: int) -> float:
    """log P of the tokens and of the end after them, in nats.

    Args:
        logits_UV: teacher-forced, (U+1, V), any floating dtype.
        tokens: the U labels.
        end: class id of the end.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or shapes and ids that do not fit.
    """
    check_rows(len(logits_UV), len(tokens) + 1, "tokens of logits")
    vocabulary = logits_UV.shape[-1]
    if any(not 0 <= token < vocabulary for token in (*tokens, end)):
        raise TeacherOutputError(f"The tokens are no classes of {vocabulary}.")
    next_U1 = torch.tensor([*tokens, end], device=logits_UV.device)[:, None]
    rows = max(1, LOGIT_BUDGET // vocabulary)
    pairs = zip(torch.split(logits_UV, rows), torch.split(next_U1, rows), strict=True)
    logp_U1 = torch.cat([log_probabilities(block).gather(-1, at) for block, at in pairs])
    return float(logp_U1.double().sum())


def _ctc_forward(logp_TC: Tensor, sequences: Sequence[Sequence[int]]) -> list[float]:
    """log P of each of some sequences of columns, of which the first is blank."""
    flat = [token for tokens in sequences for token in tokens]
    nll_N = ctc_loss(
        logp_TC[:, None].expand(-1, len(sequences), -1),
        torch.tensor(flat, dtype=torch.long, device=logp_TC.device),
        torch.full((len(sequences),), len(logp_TC)),
        torch.tensor([len(tokens) for tokens in sequences]),
        reduction="none",
    )
    found: list[float] = (-nll_N).tolist()
    return found


def _log_probabilities_of(logits_TV: Tensor, classes_C: Tensor, budget: int) -> Tensor:
    """float32 (T, C) log-probabilities of some classes."""
    blocks = torch.split(logits_TV, max(1, budget // logits_TV.shape[-1]))
    return torch.cat([log_probabilities(block)[:, classes_C] for block in blocks])
