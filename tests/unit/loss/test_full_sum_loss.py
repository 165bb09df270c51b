from __future__ import annotations

import pytest
import torch
from loss_data import gradient

from kdcache.batch import ScoreBatch
from kdcache.errors import ConfigError, InputError
from kdcache.lattice import rnnt_loss
from kdcache.loss import full_sum_distance

TARGET = ScoreBatch(torch.tensor([-3.0, -5.0, -7.0, -torch.inf]))


def student() -> torch.Tensor:
    return torch.tensor([4.0, 5.0, 2.0, 9.0]).requires_grad_()


def test_value_and_gradient() -> None:
    nll = student()
    loss = full_sum_distance(nll, TARGET, "none")
    assert loss.tolist() == [1.0, 0.0, 5.0, 0.0]
    assert gradient(loss, nll).tolist() == [1.0, 0.0, -1.0, 0.0]


def test_reductions() -> None:
    assert full_sum_distance(student(), TARGET, "sum").item() == 6.0
    assert full_sum_distance(student(), TARGET).item() == 1.5


@pytest.mark.parametrize("filler", [torch.inf, torch.nan])
def test_what_the_teacher_rules_out_has_no_say(filler: float) -> None:
    nll = torch.tensor([4.0, 5.0, 2.0, filler]).requires_grad_()
    loss = full_sum_distance(nll, TARGET, "none")
    assert loss.tolist() == [1.0, 0.0, 5.0, 0.0]
    assert gradient(loss, nll)[3] == 0


def test_no_nan_is_hidden() -> None:
    nll = torch.tensor([torch.nan, 5.0, torch.inf, 1.0])
    loss = full_sum_distance(nll, TARGET, "none")
    assert loss.isnan().tolist() == [True, False, False, False]
    assert loss.isinf().tolist() == [False, False, True, False]


def test_a_student_that_equals_its_teacher_has_nothing_to_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 4, 5, generator=generator)
    labels, frames = torch.tensor([[1, 2, 3], [3, 0, 0]]), torch.tensor([6, 4])
    nll = rnnt_loss(logits, labels, frames, torch.tensor([3, 1]), 4, "none")
    assert full_sum_distance(nll, ScoreBatch(-nll), "none").tolist() == [0.0, 0.0]


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"shape \(2,\), the target \(4,\)"):
        full_sum_distance(torch.zeros(2), TARGET)
    with pytest.raises(ConfigError, match="reduction is 'total'"):
        full_sum_distance(student(), TARGET, "total")  # type: ignore[arg-type]
