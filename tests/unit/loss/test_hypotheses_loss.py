from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_data import gradient

from kdcache.batch import HypothesesBatch
from kdcache.errors import ConfigError, InputError
from kdcache.loss import hypotheses_nll, hypothesis_weights

PROBABILITIES = torch.tensor([[0.6, 0.2, 0.1], [0.3, 0.3, 0.0], [0.0, 0.0, 0.0]])
TARGET = HypothesesBatch(
    scores_BH=PROBABILITIES.log().nan_to_num(neginf=0.0),
    ids_BHU=torch.zeros(3, 3, 2, dtype=torch.long),
    lengths_BH=torch.ones(3, 3, dtype=torch.long),
    counts_B=torch.tensor([3, 2, 0]),
)


def student() -> torch.Tensor:
    return torch.tensor([[1.0, 2.0, 3.0], [4.0, 6.0, 9.0], [9.0, 9.0, 9.0]]).requires_grad_()


def test_weights_are_the_teachers_probabilities_among_the_list() -> None:
    expected = torch.tensor([[6 / 9, 2 / 9, 1 / 9], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(hypothesis_weights(TARGET), expected)
    softer = hypothesis_weights(TARGET, temperature=2.0)
    roots = torch.tensor([0.6, 0.2, 0.1]).sqrt()
    torch.testing.assert_close(softer[0], roots / roots.sum())
    torch.testing.assert_close(hypothesis_weights(TARGET, 0.01)[0], torch.tensor([1.0, 0, 0]))


def test_value_and_gradient() -> None:
    nll = student()
    loss = hypotheses_nll(nll, TARGET, reduction="none")
    assert loss.tolist() == pytest.approx([(6 + 4 + 3) / 9, 5.0, 0.0])
    torch.testing.assert_close(gradient(loss, nll), hypothesis_weights(TARGET))
    assert hypotheses_nll(nll, TARGET).item() == pytest.approx(float(loss.detach().mean()))


@pytest.mark.parametrize("filler", [torch.inf, torch.nan])
def test_padding_has_no_say_and_no_gradient(filler: float) -> None:
    padding = torch.arange(3) >= TARGET.counts_B[:, None]
    dirty = student().detach().masked_fill(padding, filler).requires_grad_()
    loss = hypotheses_nll(dirty, TARGET, reduction="none")
    assert loss.tolist() == hypotheses_nll(student(), TARGET, reduction="none").tolist()
    assert (gradient(loss, dirty)[padding] == 0).all()


def test_no_nan_is_hidden() -> None:
    spoilt = student().detach()
    spoilt[0, 1] = torch.nan
    found = hypotheses_nll(spoilt, TARGET, reduction="none")
    assert found.isnan().tolist() == [True, False, False]


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(InputError, match="expected one loss a hypothesis"):
        hypotheses_nll(torch.zeros(3, 2), TARGET)
    with pytest.raises(ConfigError, match=r"temperature is 0\.0; expected a number above 0"):
        hypotheses_nll(student(), TARGET, temperature=0.0)
    with pytest.raises(InputError, match=r"^counts_B\[0\] is 4; expected 0 to 3"):
        hypotheses_nll(student(), replace(TARGET, counts_B=torch.tensor([4, 2, 0])))
    with pytest.raises(ConfigError, match="reduction is 'total'"):
        hypotheses_nll(student(), TARGET, reduction="total")  # type: ignore[arg-type]
