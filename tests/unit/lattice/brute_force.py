"""The slow truth: every alignment of a small lattice, one by one, in plain Python.

An alignment of U labels to T frames says at which frame each label is emitted: a sequence of
U frames that does not decrease. Shapes as in ``kdcache.lattice``, for one utterance.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

Node = tuple[int, int]


def paths(frames: int, labels: int) -> Iterator[tuple[int, ...]]:
    """Every alignment, as the frame of each label."""
    yield from combinations_with_replacement(range(frames), labels)


def path_arcs(path: tuple[int, ...], frames: int) -> tuple[list[Node], list[Node]]:
    """The nodes that the path leaves by blank, and those that it leaves by a label."""
    by_label = [(t, u) for u, t in enumerate(path)]
    by_blank = [(t, sum(emitted <= t for emitted in path)) for t in range(frames)]
    return by_blank, by_label


def path_log_prob(path: tuple[int, ...], blank_TU: Tensor, label_TU: Tensor) -> float:
    by_blank, by_label = path_arcs(path, blank_TU.shape[0])
    return sum(float(blank_TU[n]) for n in by_blank) + sum(float(label_TU[n]) for n in by_label)


def log_likelihood(blank_TU: Tensor, label_TU: Tensor) -> float:
    scores = [path_log_prob(p, blank_TU, label_TU) for p in _all(blank_TU)]
    return math.log(math.fsum(math.exp(score) for score in scores))


def arc_posteriors(blank_TU: Tensor, label_TU: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior probability of each blank and each label arc."""
    by_blank_TU = torch.zeros(blank_TU.shape, dtype=torch.float64)
    by_label_TU = torch.zeros(blank_TU.shape, dtype=torch.float64)
    total = log_likelihood(blank_TU, label_TU)
    for path in _all(blank_TU):
        weight = math.exp(path_log_prob(path, blank_TU, label_TU) - total)
        blanks, labels = path_arcs(path, blank_TU.shape[0])
        for node in blanks:
            by_blank_TU[node] += weight
        for node in labels:
            by_label_TU[node] += weight
    return by_blank_TU, by_label_TU


def prefix_log_prob(blank_TU: Tensor, label_TU: Tensor, node: Node) -> float:
    """Log-probability of all ways from the start to a node: the forward variable."""
    t, u = node
    scores = []
    for path in paths(t + 1, u):
        by_blank, by_label = path_arcs(path, t + 1)
        del by_blank[-1]  # it would leave the node itself
        score = sum(float(blank_TU[n]) for n in by_blank)
        scores.append(score + sum(float(label_TU[n]) for n in by_label))
    return math.log(math.fsum(math.exp(score) for score in scores))


def best(blank_TU: Tensor, label_TU: Tensor) -> tuple[tuple[int, ...], float]:
    scored = {p: path_log_prob(p, blank_TU, label_TU) for p in _all(blank_TU)}
    winner = max(scored, key=lambda path: scored[path])
    return winner, scored[winner]


def _all(blank_TU: Tensor) -> Iterator[tuple[int, ...]]:
    return paths(blank_TU.shape[0], blank_TU.shape[1] - 1)
