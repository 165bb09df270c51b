from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_data import gradient
from torch import Tensor

from kdcache.batch import VectorBatch
from kdcache.errors import ConfigError, InputError
from kdcache.loss import vector_mse

LENGTHS = [4, 1, 3]


@pytest.fixture
def student() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 5, generator=generator).double().requires_grad_()


@pytest.fixture
def target() -> VectorBatch:
    generator = torch.Generator().manual_seed(2)
    return VectorBatch(torch.randn(3, 4, 5, generator=generator).double(), torch.tensor(LENGTHS))


def test_value_is_the_formula(student: Tensor, target: VectorBatch) -> None:
    expected = [
        sum(
            float(((student[row, t].detach() - target.values_BTD[row, t]) ** 2).sum()) / 5
            for t in range(length)
        )
        for row, length in enumerate(LENGTHS)
    ]
    assert vector_mse(student, target, "none").tolist() == pytest.approx(expected)


def test_gradcheck(student: Tensor, target: VectorBatch) -> None:
    assert torch.autograd.gradcheck(lambda x: vector_mse(x, target, "none"), (student,))


def test_equal_vectors_are_zero(target: VectorBatch) -> None:
    assert float(vector_mse(target.values_BTD, target)) == 0


@pytest.mark.parametrize("filler", [9.0, torch.inf, float("nan")])
def test_padding_has_no_say_and_no_gradient(
    student: Tensor, target: VectorBatch, filler: float
) -> None:
    padding = torch.arange(6) >= torch.tensor(LENGTHS)[:, None]
    wider = torch.nn.functional.pad(student.detach(), (0, 0, 0, 2))
    dirty = wider.masked_fill(padding[..., None], filler).requires_grad_()
    spoilt = replace(target, values_BTD=target.values_BTD.masked_fill(padding[:, :4, None], filler))
    loss, clean = vector_mse(dirty, spoilt, "none"), vector_mse(student, target, "none")
    assert torch.equal(loss, clean)
    grad = gradient(loss, dirty)
    assert torch.equal(grad[:, :4], gradient(clean, student))
    assert (grad[padding] == 0).all()


def test_reductions_and_normalisers(student: Tensor, target: VectorBatch) -> None:
    each = vector_mse(student, target, "none")
    torch.testing.assert_close(vector_mse(student, target, "sum"), each.sum())
    torch.testing.assert_close(vector_mse(student, target), each.mean())
    by_length = vector_mse(student, target, "none", "length")
    torch.testing.assert_close(by_length, each / torch.tensor([4, 1, 3]))


def test_nan_reaches_its_own_utterance_only(student: Tensor, target: VectorBatch) -> None:
    spoilt = student.detach().clone()
    spoilt[0, 3, 2] = float("nan")
    assert vector_mse(spoilt, target, "none").isnan().tolist() == [True, False, False]


def test_half_precision_is_computed_in_float32(student: Tensor, target: VectorBatch) -> None:
    half = student.detach().half()
    expected = vector_mse(half.double(), target)
    assert vector_mse(half, target).dtype == torch.float32
    torch.testing.assert_close(vector_mse(half, target).double(), expected, rtol=1e-5, atol=0)


def test_bad_input_is_one_sentence(student: Tensor, target: VectorBatch) -> None:
    with pytest.raises(InputError, match="Project the student"):
        vector_mse(student[..., :3], target)
    with pytest.raises(InputError, match="at least as many frames"):
        vector_mse(student[:, :2], target)
    with pytest.raises(InputError, match=r"^lengths_B\[0\] is 9; expected 0 to 4"):
        vector_mse(student, replace(target, lengths_B=torch.tensor([9, 1, 3])))
    with pytest.raises(ConfigError, match="reduction is 'total'"):
        vector_mse(student, target, "total")  # type: ignore[arg-type]
