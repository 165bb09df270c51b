"""Prefix beam search over CTC posteriors.

A label sequence is reached by many rows of classes; the search adds up those that end in blank
and those that end in the last label, frame by frame (Graves, *Supervised sequence labelling with
recurrent neural networks*, 2008, section 7.5.3; Hannun et al., arXiv 1408.2873, algorithm 1).
After each frame the most probable sequences stay. Where all of them do, their scores are exact.

Of a sequence that stays, those of its extensions are not even looked at that could not stay.

Shapes: T encoder frames, V vocabulary with blank, K labels of a frame that are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcache.errors import TeacherOutputError
from kdcache.target.beam import IMPOSSIBLE, Labels, best, log_add, lowest_kept
from kdcache.target.collapse import LOGIT_BUDGET, likeliest, log_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

Ends = tuple[float, float]
"""Log-probabilities of what ends in blank, and of what ends in the last label."""


def ctc_beam_search(
    logits_TV: Tensor, blank: int, beam: int, budget: int = LOGIT_BUDGET
) -> list[Labels]:
    """The most probable label sequences that the search finds, at most ``beam``, best first.

    Args:
        logits_TV: any floating dtype.
        blank: class id of blank.
        beam: label sequences that stay after each frame.
        budget: logits that may be in memory at once; a single row may have more.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or a blank that is none of the classes.
    """
    if not 0 <= blank < logits_TV.shape[-1]:
        raise TeacherOutputError(f"Blank is {blank}, of {logits_TV.shape[-1]} classes.")
    found: dict[Labels, Ends] = {(): (0.0, IMPOSSIBLE)}
    for logp_V, labels_K in _frames(logits_TV, blank, beam + 1, budget):
        found = _next(found, logp_V, blank, labels_K, beam)
    return best(_totals(found), beam)


def _frames(
    logits_TV: Tensor, blank: int, count: int, budget: int
) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Log-probabilities of each frame, and its likeliest labels, best first."""
    vocabulary = logits_TV.shape[-1]
    for block_TV in torch.split(logits_TV, max(1, budget // vocabulary)):
        logp_TV = log_probabilities(block_TV)
        ids_TK = likeliest(logp_TV, min(count + 1, vocabulary)).tolist()
        for logp_V, ids_K in zip(logp_TV.double().cpu().numpy(), ids_TK, strict=True):
            yield logp_V, [label for label in ids_K if label != blank][:count]


def _next(
    found: dict[Labels, Ends], logp_V: np.ndarray, blank: int, labels_K: list[int], beam: int
) -> dict[Labels, Ends]:
    """What stays after one more frame."""
    totals = _totals(found)
    moved = {
        labels: (
            totals[labels] + float(logp_V[blank]),
            ends[1] + float(logp_V[labels[-1]]) if labels else IMPOSSIBLE,
        )
        for labels, ends in found.items()
    }
    for labels in found:  # one label more leads from one that is there to another
        if labels and labels[:-1] in found:
            score = _extended(found, totals, labels[:-1], labels[-1], logp_V)
            moved[labels] = (moved[labels][0], log_add(moved[labels][1], score))
    least = lowest_kept(_totals(moved), beam)
    for labels in found:
        for label in labels_K:
            if totals[labels] + float(logp_V[label]) < least:
                break
            longer = (*labels, label)
            if longer not in found:
                score = _extended(found, totals, labels, label, logp_V)
                moved[longer] = (IMPOSSIBLE, score)
    return {labels: moved[labels] for labels in best(_totals(moved), beam)}


def _extended(
    found: dict[Labels, Ends],
    totals: dict[Labels, float],
    labels: Labels,
    label: int,
    logp_V: np.ndarray,
) -> float:
    """Score of ``labels`` and ``label``: the same label twice needs a blank between."""
    repeated = bool(labels) and labels[-1] == label
    return (found[labels][0] if repeated else totals[labels]) + float(logp_V[label])


def _totals(found: dict[Labels, Ends]) -> dict[Labels, float]:
    return {labels: log_add(*ends) for labels, ends in found.items()}
