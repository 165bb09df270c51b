from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_data import gradient
from torch import Tensor

from kdcache.batch import VectorBatch
from kdcache.errors import ConfigError, InputError
from kdcache.loss import codebook_cross_entropy

LENGTHS = [4, 1, 3]


@pytest.fixture
def student() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 4, 2, 7, generator=generator).double().requires_grad_()


@pytest.fixture
def target() -> VectorBatch:
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 7, (3, 4, 2), generator=generator)
    padding = torch.arange(4) >= torch.tensor(LENGTHS)[:, None]
    codes = codes.masked_fill(padding[..., None], -1)
    return VectorBatch(torch.zeros(3, 4, 5), torch.tensor(LENGTHS), codes)


def test_value_is_the_formula(student: Tensor, target: VectorBatch) -> None:
    assert target.codes_BTQ is not None
    logp = student.detach().log_softmax(-1)
    expected = [
        -sum(
            float(logp[row, t, q, target.codes_BTQ[row, t, q]])
            for t in range(length)
            for q in range(2)
        )
        for row, length in enumerate(LENGTHS)
    ]
    assert codebook_cross_entropy(student, target, "none").tolist() == pytest.approx(expected)
    by_length = codebook_cross_entropy(student, target, "none", "length")
    assert by_length.tolist() == pytest.approx(
        [value / length for value, length in zip(expected, LENGTHS, strict=True)]
    )
    mean = codebook_cross_entropy(student, target).item()
    assert mean == pytest.approx(sum(expected) / 3)


def test_gradcheck(student: Tensor, target: VectorBatch) -> None:
    assert torch.autograd.gradcheck(lambda x: codebook_cross_entropy(x, target, "none"), (student,))


@pytest.mark.parametrize("filler", [9.0, torch.inf, float("nan")])
def test_padding_has_no_say_and_no_gradient(
    student: Tensor, target: VectorBatch, filler: float
) -> None:
    padding = torch.arange(6) >= torch.tensor(LENGTHS)[:, None]
    wider = torch.nn.functional.pad(student.detach(), (0, 0, 0, 0, 0, 2))
    dirty = wider.masked_fill(padding[..., None, None], filler).requires_grad_()
    loss, clean = (codebook_cross_entropy(x, target, "none") for x in (dirty, student))
    assert torch.equal(loss, clean)
    grad = gradient(loss, dirty)
    assert torch.equal(grad[:, :4], gradient(clean, student))
    assert (grad[padding] == 0).all()


def test_nan_reaches_its_own_utterance_only(student: Tensor, target: VectorBatch) -> None:
    spoilt = student.detach().clone()
    spoilt[0, 3, 1, 2] = float("nan")
    found = codebook_cross_entropy(spoilt, target, "none")
    assert found.isnan().tolist() == [True, False, False]


def test_a_student_that_is_sure_and_right_has_nothing_to_learn(target: VectorBatch) -> None:
    assert target.codes_BTQ is not None
    sure = torch.nn.functional.one_hot(target.codes_BTQ.clamp(min=0), 7) * 1e3
    assert codebook_cross_entropy(sure.float(), target).item() == 0


def test_half_precision_is_computed_in_float32(student: Tensor, target: VectorBatch) -> None:
    half = student.detach().half()
    expected = codebook_cross_entropy(half.double(), target)
    assert codebook_cross_entropy(half, target).dtype == torch.float32
    found = codebook_cross_entropy(half, target).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_bad_input_is_one_sentence(student: Tensor, target: VectorBatch) -> None:
    with pytest.raises(InputError, match="was not packed by codebooks"):
        codebook_cross_entropy(student, replace(target, codes_BTQ=None))
    with pytest.raises(InputError, match="equal batch and codebooks"):
        codebook_cross_entropy(student[:, :, :1], target)
    with pytest.raises(InputError, match="at least as many frames"):
        codebook_cross_entropy(student[:, :2], target)
    codes = torch.full((3, 4, 2), 6)
    with pytest.raises(InputError, match=r"has entry 6 of a codebook, the student logits for 6"):
        codebook_cross_entropy(student[..., :6], replace(target, codes_BTQ=codes))
    with pytest.raises(ConfigError, match="reduction is 'total'"):
        codebook_cross_entropy(student, target, "total")  # type: ignore[arg-type]
