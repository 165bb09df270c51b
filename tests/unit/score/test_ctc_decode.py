"""Greedy CTC decoding, against the definition of collapsing written as a loop."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcache.score.ctc import greedy_ctc_decode

BLANK = 3


def collapse(path: list[int]) -> list[int]:
    labels, before = [], None
    for best in path:
        if best not in (before, BLANK):
            labels.append(best)
        before = best
    return labels


@given(st.lists(st.lists(st.integers(0, BLANK), max_size=8), min_size=1, max_size=4))
def test_paths_are_collapsed_within_their_lengths(paths: list[list[int]]) -> None:
    frames = torch.tensor([len(path) for path in paths])
    padded = torch.tensor([path + [0] * (8 - len(path)) for path in paths])
    logits = torch.nn.functional.one_hot(padded, BLANK + 1).float()
    expected = [collapse(path) for path in paths]
    assert greedy_ctc_decode(logits, frames, BLANK) == expected
