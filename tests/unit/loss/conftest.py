from __future__ import annotations

import pytest
from loss_data import Case, random_case


@pytest.fixture
def ragged() -> Case:
    """Lengths of every sort: full, one frame, no label, both."""
    return random_case([4, 1, 3, 1], [3, 2, 0, 0])


@pytest.fixture
def tiny() -> Case:
    """As few logits as show padding in time and in labels, for numerical derivatives."""
    return random_case([2, 1, 2], [1, 1, 0], vocab=4)
