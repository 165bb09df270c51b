"""An n-gram over labels, estimated from transcripts: what a denominator graph says is likely.

Probabilities are smoothed by interpolation with the shorter history (Witten and Bell 1991, method
C; in the form of Chen and Goodman 1999, section 2.6):

    P(v | h) = (c(h v) + n(h) · P(v | h')) / (c(h) + n(h))

with c counts, n(h) how many different labels (or the end) followed h, and h' the history h without
its first label; below the empty history all labels and the end are as likely as one another. So
every label sequence has a probability, and they add up to 1.

A history always holds the last label, even of a unigram, because CTC must know whether a label is
repeated. Of longer ones those are kept that were seen; another's probabilities are, by the formula,
those of its longest end that was.

Shapes: H histories, L labels (blank is none), N labels of a history at most.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ORDERS = (1, 2, 3)
"""Labels that are looked at together."""

START = -1
"""In a history: nothing was said before."""

History = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class NGram:
    """Probabilities of the next label after each history; history 0 is the beginning.

    Attributes:
        order: labels that are looked at together.
        tokenizer: fingerprint of the tokenizer whose ids the labels are.
        last_H: int64, the last label of each history; START of history 0.
        logp_HL: float64 (H, L+1), natural logarithms; the last column is the end.
        next_HL: int64 (H, L), the history after one more label.
    """

    order: int
    tokenizer: str
    last_H: np.ndarray
    logp_HL: np.ndarray
    next_HL: np.ndarray

    @property
    def labels(self) -> int:
        """L."""
        return int(self.next_HL.shape[1])

    def log_prob(self, sequence: Sequence[int]) -> float:
        """Of a whole label sequence, its end included.

        Raises:
            InputError: a label is none of the L.
        """
        history, total = 0, 0.0
        for label in sequence:
            if not 0 <= label < self.labels:
                raise InputError(
                    f"Label {label} is none of the n-gram's {self.labels}; make the denominator "
                    "with the student's tokenizer."
                )
            total += float(self.logp_HL[history, label])
            history = int(self.next_HL[history, label])
        return total + float(self.logp_HL[history, self.labels])


def estimate_ngram(
    sequences: Iterable[Sequence[int]], labels: int, order: int = 2, tokenizer: str = ""
) -> NGram:
    """Estimate from label sequences; the same sequences in any order give the same n-gram.

    Args:
        sequences: label ids of each transcript.
        labels: L, as many as the tokenizer has.
        order: 1, 2 or 3.
        tokenizer: its fingerprint, which training compares.

    Raises:
        ConfigError: another order, or no sequence at all.
        InputError: a label id is out of range.
    """
    if order not in ORDERS:
        raise ConfigError(f"The n-gram's order is {order!r}; expected 1, 2 or 3.")
    counts = _count(sequences, labels, order)
    if not counts[()]:
        raise ConfigError("There are no transcripts to estimate an n-gram from; give some.")
    histories = _histories(counts, labels, order)
    probabilities = dict(_smoothed(counts, labels))
    logp_HL = np.log([_of_longest_end(h, order, probabilities) for h in histories])
    last_H = np.array([history[-1] for history in histories])
    next_HL = _next(histories, last_H, labels)
    return NGram(order, tokenizer, last_H, logp_HL, next_HL)


def _count(
    sequences: Iterable[Sequence[int]], labels: int, order: int
) -> defaultdict[History, Counter[int]]:
    """How often each label, or the end (``labels``), followed each history."""
    counts: defaultdict[History, Counter[int]] = defaultdict(Counter)
    for sequence in sequences:
        bad = [label for label in sequence if not 0 <= label < labels]
        if bad:
            raise InputError(
                f"Label id {bad[0]} is outside 0 to {labels - 1}; give the tokenizer that made it."
            )
        past: History = (START,)
        for label in (*sequence, labels):
            for length in range(min(order, len(past) + 1)):
                counts[past[len(past) - length :]][label] += 1
            past = (*past, label)[-max(order - 1, 1) :]
    return counts


def _histories(
    counts: defaultdict[History, Counter[int]], labels: int, order: int
) -> list[History]:
    """The beginning, each single label, and longer ones that were seen, in a fixed order."""
    longer = sorted(h for h in counts if 1 < len(h) < order)
    return [(START,), *((label,) for label in range(labels)), *longer]


def _smoothed(
    counts: defaultdict[History, Counter[int]], labels: int
) -> Iterable[tuple[History, np.ndarray]]:
    """Probabilities (L+1,) after each history that was seen, the shortest first."""
    found: dict[History, np.ndarray] = {}
    for history in sorted(counts, key=lambda h: (len(h), h)):
        count_L = np.zeros(labels + 1)
        for label, number in counts[history].items():
            count_L[label] = number
        shorter_L = found[history[1:]] if history else np.full(labels + 1, 1 / (labels + 1))
        kinds = np.count_nonzero(count_L)
        found[history] = (count_L + kinds * shorter_L) / (count_L.sum() + kinds)
        yield history, found[history]


def _of_longest_end(
    history: History, order: int, probabilities: dict[History, np.ndarray]
) -> np.ndarray:
    history = history if order > 1 else ()
    while history not in probabilities:
        history = history[1:]
    return probabilities[history]


def _next(histories: list[History], last_H: np.ndarray, labels: int) -> np.ndarray:
    """The history after one more label, (H, L): its longest end that is kept, of two at most."""
    next_HL = np.tile(1 + np.arange(labels), (len(histories), 1))
    for row, history in enumerate(histories):
        if len(history) == 2:
            before, label = history
            next_HL[last_H == before, label] = row
    return next_HL
