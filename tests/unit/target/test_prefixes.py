"""Several sequences at once, against the lattice of each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.errors import TeacherOutputError
from kdcache.target.prefixes import prefix_states, sequence_likelihoods
from tests.unit.target.conftest import ToyTransducer, states_after

if TYPE_CHECKING:
    from torch import Tensor

SEQUENCE = st.lists(st.integers(0, 2), max_size=4).map(tuple)


@settings(max_examples=25, deadline=None)
@given(st.lists(SEQUENCE, min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 99))
def test_each_is_what_its_own_lattice_says(
    sequences: list[tuple[int, ...]], frames: int, seed: int
) -> None:
    toy = ToyTransducer(frames=frames, labels=3, seed=seed)
    found = sequence_likelihoods(toy.lattice(()), toy, sequences, budget=30)
    expected = [toy.likelihood(labels) for labels in sequences]
    assert found == pytest.approx(expected, abs=1e-5)


def test_shared_prefixes_are_asked_for_once() -> None:
    toy = ToyTransducer(frames=7, labels=5, seed=0)
    lattice, nodes = toy.lattice(()), 0

    def counting(encoder: Tensor, decoder: Tensor) -> Tensor:
        nonlocal nodes
        nodes += encoder.shape[0] * decoder.shape[1]
        return toy.lattice(()).joint(encoder, decoder)

    object.__setattr__(lattice, "joint", counting)
    sequence_likelihoods(lattice, toy, [(1, 2, 3), (1, 2, 4), (1, 2), (1, 2, 3, 3)])
    assert nodes == 7 * 6


def test_states_are_in_the_prefixes_order() -> None:
    toy = ToyTransducer(frames=1, labels=4, seed=2)
    prefixes = [(), (1,), (2,), (1, 3), (2, 0), (2, 0, 1)]
    found = prefix_states(toy, prefixes)
    expected = torch.cat([states_after(toy, prefix)[-1:] for prefix in prefixes])
    torch.testing.assert_close(found, expected)


def test_nothing_and_what_cannot_be() -> None:
    toy = ToyTransducer(frames=3, labels=2, seed=0)
    assert sequence_likelihoods(toy.lattice(()), toy, []) == []
    never = ToyTransducer(frames=3, labels=2, seed=0, blank_bias=-math.inf)
    assert sequence_likelihoods(never.lattice(()), never, [(), (1,)]) == [-math.inf] * 2
    broken = ToyTransducer(frames=3, labels=2, seed=0, blank_bias=math.nan)
    with pytest.raises(TeacherOutputError, match="NaN or infinite"):
        sequence_likelihoods(broken.lattice(()), broken, [(1,)])
