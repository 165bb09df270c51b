"""A node's probabilities in even steps of √p, its likeliest class implied by the others.

The step is even where equal steps lose equally much (``kdcache.codec.scale``). What lies below
half a step is one code: it stands for the mean of its like in the utterance, which is what loses
least.

Error. Let n be the steps and h = 1/2n. A class of code c ≥ 1 is decoded as (c/n)², and has √p
within h of that. One of code 0 has √p ≤ h, and is decoded as some probability from 2⁻³²h² to h².
Let s be the sum of these and m the largest of them. The likeliest class is decoded as
max(1 − s, m), and all are divided by the sum, max(1, s + m).

Shapes: N nodes of all lattices, C classes, B lattices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kdcache.codec.records import BLANK, LABEL

KINDS = (slice(BLANK, BLANK + 1), slice(LABEL, LABEL + 1), slice(LABEL + 1, None))
"""Blank, label and all others: code 0 stands for a probability of its own in each."""

_FLOAT32_SLACK = 2.0**-19
_NOTHING_LITTLE = 255


class NodeCodes(NamedTuple):
    """A lattice in codes.

    Attributes:
        lead_N: int32 (N+1), the likeliest class; −1 in the last.
        codes_NC: int32 (N+1, C), from 0 to n, which is that of a lead; −1 in the last.
        there_NC: bool (N, C), classes of some probability.
        floors: (B, 3) from 0 to 255, what code 0 of each kind stands for: f is 2^(−f/8)·h².
        nodes: N of each lattice; together they have all nodes.
    """

    lead_N: np.ndarray
    codes_NC: np.ndarray
    there_NC: np.ndarray
    floors: np.ndarray
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class NodeScale:
    """Codes of nodes and back.

    Attributes:
        steps: n.
    """

    steps: int

    def codes(self, logp_NC: np.ndarray) -> NodeCodes:
        """Of float64 log-probabilities; of equally likely classes the first is the lead."""
        p_NC, there_NC = np.exp(logp_NC), ~np.isneginf(logp_NC)
        codes_NC = np.full((len(p_NC) + 1, p_NC.shape[1]), -1, np.int32)
        codes_NC[:-1] = np.rint(np.sqrt(p_NC) * self.steps)
        lead_N = np.full(len(p_NC) + 1, -1, np.int32)
        lead_N[:-1] = logp_NC.argmax(-1)
        codes_NC[np.arange(len(p_NC)), lead_N[:-1]] = self.steps
        floors = self._floors(p_NC, there_NC & (codes_NC[:-1] == 0))
        return NodeCodes(lead_N, codes_NC, there_NC, floors[None], (len(p_NC),))

    def logp(self, codes: NodeCodes) -> np.ndarray:
        """float32 (N, C), normalised."""
        floors = 2.0 ** (codes.floors / -8.0) / (4 * self.steps**2)
        p_of = np.concatenate([self._even, floors.reshape(-1), [0.0]])
        index_NC = self._index(codes)
        p_NC = p_of.take(index_NC)
        others_N, largest_N = _sum_and_max(p_NC)
        p_NC[np.arange(len(p_NC)), codes.lead_N[:-1]] = np.maximum(1 - others_N, largest_N)
        p_NC /= np.maximum(1, others_N + largest_N)[:, None]
        with np.errstate(divide="ignore"):
            logp_NC: np.ndarray = np.log(p_NC).astype(np.float32)
        return logp_NC

    def error_bound(self, logp_NC: np.ndarray) -> np.ndarray:
        """Largest error in nats, float32 (N, C), of float64 log-probabilities."""
        codes = self.codes(logp_NC)
        low_NC, high_NC, lead_NC = self._limits(logp_NC, codes)
        (low_N, least_N), (high_N, most_N) = _sum_and_max(low_NC), _sum_and_max(high_NC)
        low_NC[lead_NC] = np.maximum(1 - high_N, least_N)
        high_NC[lead_NC] = np.maximum(1 - low_N, most_N)
        given_NC = np.where(codes.there_NC, logp_NC, 0.0)
        with np.errstate(divide="ignore"):
            above_NC = np.log(high_NC / np.maximum(1, low_N + least_N)[:, None]) - given_NC
            below_NC = given_NC - np.log(low_NC / np.maximum(1, high_N + most_N)[:, None])
        bound_NC = np.maximum(above_NC, below_NC) + _FLOAT32_SLACK * (1.0 - given_NC)
        return np.where(codes.there_NC, bound_NC, 0.0).astype(np.float32)

    @cached_property
    def _even(self) -> np.ndarray:
        even: np.ndarray = (np.arange(self.steps + 1) / self.steps) ** 2
        return even

    def _floors(self, p_NC: np.ndarray, little_NC: np.ndarray) -> np.ndarray:
        """What code 0 stands for, as ``NodeCodes`` has it."""
        floors = np.full(len(KINDS), _NOTHING_LITTLE, np.uint8)
        for kind, classes in enumerate(KINDS):
            little = p_NC[:, classes][little_NC[:, classes]]
            mean = float(little.mean()) if len(little) else 0.0
            if mean > 0:
                floors[kind] = np.rint(-8 * np.log2(mean * 4 * self.steps**2)).clip(0, 255)
        return floors

    def _index(self, codes: NodeCodes) -> np.ndarray:
        """Places in a table of the even steps, all lattices' floors, and nothing, as of leads."""
        index_NC = codes.codes_NC[:-1].copy()
        first_B = np.arange(len(codes.nodes), dtype=np.int32) * len(KINDS) + self.steps + 1
        floor_N1 = first_B.repeat(codes.nodes)[:, None]
        little_NC = index_NC == 0
        for kind, classes in enumerate(KINDS):
            np.copyto(index_NC[:, classes], floor_N1 + kind, where=little_NC[:, classes])
        nothing = self.steps + 1 + codes.floors.size
        index_NC[~codes.there_NC] = nothing
        index_NC[np.arange(len(index_NC)), codes.lead_N[:-1]] = nothing
        return index_NC

    def _limits(
        self, logp_NC: np.ndarray, codes: NodeCodes
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What classes may be before dividing, 0 for leads; and which are leads."""
        root_NC, half = np.exp(0.5 * logp_NC), 0.5 / self.steps
        some_NC = codes.codes_NC[:-1] > 0
        low_NC = np.where(some_NC, (root_NC - half).clip(2 * half), half * 2.0**-16) ** 2
        high_NC = np.where(some_NC, root_NC + half, half) ** 2
        lead_NC = codes.lead_N[:-1, None] == np.arange(logp_NC.shape[1])
        asked_NC = codes.there_NC & ~lead_NC
        return np.where(asked_NC, low_NC, 0.0), np.where(asked_NC, high_NC, 0.0), lead_NC


def _sum_and_max(p_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over classes, one after the other, as they are few and the order is to be fixed."""
    total_N, largest_N = p_NC[:, 0].copy(), p_NC[:, 0].copy()
    for p_N in p_NC.T[1:]:
        total_N += p_N
        np.maximum(largest_N, p_N, out=largest_N)
    return total_N, largest_N
