from __future__ import annotations

import pytest
from lattices import Lattice, random_lattice


@pytest.fixture
def ragged() -> Lattice:
    """Lengths of every sort: full, one frame, no label, both."""
    return random_lattice([4, 1, 3, 1, 2], [3, 2, 0, 0, 3])


@pytest.fixture
def tiny() -> Lattice:
    """As few logits as show padding in time and in labels, for numerical derivatives."""
    return random_lattice([2, 1, 2], [1, 1, 0], vocab=4)
