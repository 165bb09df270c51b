"""A transducer's prediction network, label by label, is the one that makes its lattice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.target.full_sum import likelihood_of
from kdcache.target.transducer_beam import transducer_beam_search
from kdcache.teacher.transducer import LstmPredictor
from tests.unit.target.conftest import states_after

if TYPE_CHECKING:
    from collections.abc import Callable

AUDIO = np.random.default_rng(7).normal(0, 0.1, 16000).astype(np.float32)


@pytest.mark.parametrize("tokens", [(), (3,), (1, 4, 2, 2, 5)])
def test_label_by_label_as_all_at_once(
    loaded: Callable[[str], Any], tokens: tuple[int, ...]
) -> None:
    (output,) = loaded("transducer").forward([AUDIO], [tokens])
    found = states_after(output.lattice.predictor, tokens)
    torch.testing.assert_close(found, output.lattice.decoder_UJ)


def test_sequences_may_be_chosen_and_joined(loaded: Callable[[str], Any]) -> None:
    predictor = loaded("transducer").predictor
    assert isinstance(predictor, LstmPredictor)
    _, start = predictor.start()
    _, state = predictor.step(torch.tensor([1, 2, 3]), tuple(s.expand(3, -1, -1) for s in start))
    chosen = tuple(s[[2, 0]] for s in state)
    output, _ = predictor.step(torch.tensor([5, 6]), chosen)
    torch.testing.assert_close(output[:1], states_after(predictor, (3, 5))[-1:])
    torch.testing.assert_close(output[1:], states_after(predictor, (1, 6))[-1:])


def test_a_search_beats_greedy(loaded: Callable[[str], Any]) -> None:
    """Greedy decoding's labels are no more probable than the best that a search finds."""
    teacher = loaded("transducer")
    (output,) = teacher.forward([AUDIO], [()])
    lattice = output.lattice
    greedy = transducer_beam_search(lattice, lattice.predictor, 1, 3)[0]
    found = transducer_beam_search(lattice, lattice.predictor, 8, 3)
    outputs = [teacher.forward([AUDIO], [labels])[0] for labels in (greedy, *found)]
    scores = [likelihood_of(output) for output in outputs]
    assert max(scores[1:]) >= scores[0] - 1e-4


def test_an_attention_decoder_knows_its_end(loaded: Callable[[str], Any]) -> None:
    teacher = loaded("whisper")
    (output,) = teacher.forward([AUDIO], [(1, 2)])
    assert output.end == teacher.model.config.eos_token_id
    logp = output.token_logits_UV.double().log_softmax(-1)
    expected = logp[0, 1] + logp[1, 2] + logp[2, output.end]
    assert likelihood_of(output) == pytest.approx(float(expected), rel=1e-6)
