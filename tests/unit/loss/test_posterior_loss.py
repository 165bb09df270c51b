from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_data import gradient
from torch import Tensor

from kdcache.batch import PosteriorBatch
from kdcache.errors import ConfigError, InputError
from kdcache.loss import Rest, posterior_kl

LENGTHS = [5, 1, 3, 0]


def random_logits(vocab: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(len(LENGTHS), max(LENGTHS), vocab, generator=generator).double()


def top_k_target(teacher: Tensor, k: int) -> PosteriorBatch:
    """Top-k and rest, the plain way."""
    q, ids = teacher.softmax(-1).sort(-1, descending=True)
    rest = q[..., k:].sum(-1, keepdim=True)
    return PosteriorBatch(
        torch.cat([q[..., :k], rest], -1).log(), ids[..., :k], torch.tensor(LENGTHS)
    )


@pytest.fixture
def student() -> Tensor:
    return random_logits(seed=1).requires_grad_()


@pytest.fixture
def target() -> PosteriorBatch:
    return top_k_target(random_logits(seed=2), 3)


def test_value_is_the_formula(student: Tensor, target: PosteriorBatch) -> None:
    p = student.detach().softmax(-1)
    kept = p.gather(-1, target.ids_BNK)
    p = torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], -1)
    q = target.logp_BNC.exp()
    terms = (q * (q / p).log()).sum(-1)
    expected = [float(terms[row, :length].sum()) for row, length in enumerate(LENGTHS)]
    assert posterior_kl(student, target, reduction="none").tolist() == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 1, 4, 6])
def test_gradcheck(k: int) -> None:
    target = top_k_target(random_logits(seed=2), k)

    def function(z: Tensor) -> Tensor:
        return posterior_kl(z, target, reduction="none")

    assert torch.autograd.gradcheck(function, (random_logits(seed=1).requires_grad_(),))


def test_every_class_kept_is_the_full_kl(student: Tensor) -> None:
    teacher = random_logits(seed=2)
    loss = posterior_kl(student, top_k_target(teacher, 6), reduction="none")
    full = torch.nn.functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    expected = torch.stack([full[row, :length].sum() for row, length in enumerate(LENGTHS)])
    torch.testing.assert_close(loss, expected)


def test_the_rest_keeps_the_student_from_being_taught_too_sharp() -> None:
    teacher = random_logits(seed=2)
    same = teacher.clone().requires_grad_()
    loss = posterior_kl(same, top_k_target(teacher, 2), reduction="none")
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-12)
    grad = gradient(loss, same)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)


@pytest.mark.parametrize("filler", [3.0, -torch.inf, float("nan")])
def test_padding_has_no_say_and_no_gradient(
    student: Tensor, target: PosteriorBatch, filler: float
) -> None:
    padding = torch.arange(7) >= torch.tensor(LENGTHS)[:, None]
    wider = torch.nn.functional.pad(student.detach(), (0, 0, 0, 2))
    dirty = wider.masked_fill(padding[..., None], filler).requires_grad_()
    spoilt = replace(target, logp_BNC=target.logp_BNC.masked_fill(padding[:, :5, None], filler))
    loss = posterior_kl(dirty, spoilt, reduction="none")
    clean = posterior_kl(student, target, reduction="none")
    assert torch.equal(loss, clean)
    grad = gradient(loss, dirty)
    assert torch.equal(grad[:, :5], gradient(clean, student))
    assert (grad[padding] == 0).all()


def test_nan_reaches_its_own_utterance_only(student: Tensor, target: PosteriorBatch) -> None:
    spoilt = student.detach().clone()
    spoilt[2, 0, 1] = float("nan")
    loss = posterior_kl(spoilt, target, reduction="none")
    assert loss.isnan().tolist() == [False, False, True, False]
    assert posterior_kl(spoilt, target).isnan()


def test_reductions_and_normalisers(student: Tensor, target: PosteriorBatch) -> None:
    each = posterior_kl(student, target, reduction="none")
    torch.testing.assert_close(posterior_kl(student, target, reduction="sum"), each.sum())
    torch.testing.assert_close(posterior_kl(student, target), each.mean())
    by_length = posterior_kl(student, target, reduction="none", normalise="length")
    torch.testing.assert_close(by_length, each / torch.tensor([5, 1, 3, 1]))
    assert each[3] == 0


def test_another_temperature_needs_every_class(student: Tensor, target: PosteriorBatch) -> None:
    with pytest.raises(ConfigError, match="temperature is 2.0; expected 1, because this target"):
        posterior_kl(student, target, temperature=2.0)
    with pytest.raises(ConfigError, match=r"temperature is 0.0; expected a number above 0"):
        posterior_kl(student, target, temperature=0.0)


@pytest.mark.parametrize("rest", ["joined", "spread"])
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_temperature_is_that_of_both_logits(
    student: Tensor, rest: Rest, temperature: float
) -> None:
    """KL(softmax(e^T/τ) ‖ softmax(e^S/τ)) from what was cached at 1, and nothing from padding."""
    teacher = random_logits(seed=2)
    dense = top_k_target(teacher, 6)
    value = posterior_kl(student, dense, temperature, reduction="none", rest=rest)
    q, p = (z.div(temperature).log_softmax(-1) for z in (teacher, student))
    terms = (q.exp() * (q - p)).sum(-1)
    expected = torch.stack([terms[row, :n].sum() for row, n in enumerate(LENGTHS)])
    torch.testing.assert_close(value, expected)
    assert_same = torch.testing.assert_close
    assert_same(gradient(value.sum(), student), gradient(expected.sum(), student))

    def function(z: Tensor) -> Tensor:
        return posterior_kl(z, dense, temperature, reduction="none", rest=rest)

    assert torch.autograd.gradcheck(function, (random_logits(seed=1).requires_grad_(),))


def test_bad_input_is_one_sentence(student: Tensor, target: PosteriorBatch) -> None:
    with pytest.raises(InputError, match="expected one more than ids"):
        posterior_kl(student, replace(target, ids_BNK=target.ids_BNK[..., :1]))
    with pytest.raises(InputError, match=r"expected \(batch, length, vocabulary\)"):
        posterior_kl(student[0], target)
    with pytest.raises(InputError, match="outside the vocabulary of 2"):
        posterior_kl(student[..., :2], target)
    with pytest.raises(InputError, match=r"^lengths_B\[1\] is 6; expected 0 to 5"):
        posterior_kl(student, replace(target, lengths_B=torch.tensor([5, 6, 3, 0])))
    with pytest.raises(InputError, match="cannot hold the nodes"):
        posterior_kl(student[:, :3], target)
    with pytest.raises(ConfigError, match="normalise is 'frames'; expected one of none, length"):
        posterior_kl(student, target, normalise="frames")  # type: ignore[arg-type]
