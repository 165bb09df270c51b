"""KL over the whole vocabulary with the rest spread: against the dense formula."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_data import gradient
from torch import Tensor

from kdcache.batch import PosteriorBatch, TailTable, to_device
from kdcache.errors import ConfigError, InputError
from kdcache.loss import posterior_kl, spread_rest

VOCABULARY = 6
LENGTHS = [5, 1, 3, 0]


def random_logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(len(LENGTHS), 5, VOCABULARY, generator=generator, dtype=torch.float64)


def ragged_target(tail: TailTable | None, slots: int = 4) -> PosteriorBatch:
    """Rows that keep 1 to ``slots`` classes, and slots beyond that are not used."""
    q, ids = random_logits(2).softmax(-1).sort(-1, descending=True)
    counts = 1 + torch.arange(4 * 5).reshape(4, 5, 1) % slots
    used = torch.arange(slots) < counts
    rest = 1 - (q[..., :slots] * used).sum(-1, keepdim=True)
    logp = torch.cat([(q[..., :slots] * used), rest], -1).log()
    return PosteriorBatch(
        logp, ids[..., :slots].masked_fill(~used, -1), torch.tensor(LENGTHS), tail
    )


def table() -> TailTable:
    weights = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(5))
    return TailTable(weights, torch.tensor([0, 1, 2, 0, 1, 2]))


TAILS = [None, table()]


def dense(target: PosteriorBatch) -> Tensor:
    """The definition, class by class."""
    out = torch.zeros(*target.ids_BNK.shape[:2], VOCABULARY, dtype=torch.float64)
    for b in range(out.shape[0]):
        for n in range(out.shape[1]):
            ids = [i for i in target.ids_BNK[b, n].tolist() if i >= 0]
            weights = torch.ones(VOCABULARY, dtype=torch.float64)
            if target.tail is not None:
                row = target.tail.row_V[ids[0]]
                weights = target.tail.logw_RV[row].double().exp()
            weights[ids] = 0
            if weights.sum() > 0:
                out[b, n] = target.logp_BNC[b, n, -1].exp() * weights / weights.sum()
            for slot, class_id in enumerate(ids):
                out[b, n, class_id] = target.logp_BNC[b, n, slot].exp()
    return out


@pytest.fixture
def student() -> Tensor:
    return random_logits(1).requires_grad_()


@pytest.mark.parametrize("tail", TAILS, ids=["even", "table"])
@pytest.mark.parametrize("slots", [1, 4, 6])
def test_value_and_gradient_are_those_of_the_dense_kl(
    student: Tensor, tail: TailTable | None, slots: int
) -> None:
    target = ragged_target(tail, slots)
    q = dense(target)
    terms = (torch.special.xlogy(q, q) - q * student.log_softmax(-1)).sum(-1)
    real = torch.arange(5) < target.lengths_B[:, None]
    expected = terms.masked_fill(~real, 0.0).sum(1)
    loss = posterior_kl(student, target, reduction="none", rest="spread")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, student), gradient(expected, student))


@pytest.mark.parametrize("tail", TAILS, ids=["even", "table"])
def test_gradcheck(student: Tensor, tail: TailTable | None) -> None:
    target = ragged_target(tail)

    def function(z: Tensor) -> Tensor:
        return posterior_kl(z, target, reduction="none", rest="spread")

    assert torch.autograd.gradcheck(function, (student,))


def test_it_is_no_less_than_the_rest_as_one_class(student: Tensor) -> None:
    target = ragged_target(table())
    joined = posterior_kl(student, target, reduction="none")
    spread = posterior_kl(student, target, reduction="none", rest="spread")
    assert (spread >= joined - 1e-12).all()
    assert (spread[:3] > joined[:3]).all()


def test_slots_that_are_not_used_change_nothing_for_the_rest_as_one_class(student: Tensor) -> None:
    narrow = ragged_target(None)
    wide = PosteriorBatch(
        torch.cat(
            [
                narrow.logp_BNC[..., :-1],
                torch.full((4, 5, 3), -torch.inf, dtype=torch.float64),
                narrow.logp_BNC[..., -1:],
            ],
            -1,
        ),
        torch.nn.functional.pad(narrow.ids_BNK, (0, 3), value=-1),
        narrow.lengths_B,
    )
    for rest in ("joined", "spread"):
        one = posterior_kl(student, narrow, reduction="none", rest=rest)  # type: ignore[arg-type]
        other = posterior_kl(student, wide, reduction="none", rest=rest)  # type: ignore[arg-type]
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(gradient(one, student), gradient(other, student))


def test_a_student_that_is_the_spread_teacher_has_nothing_to_learn() -> None:
    target = ragged_target(table())
    same = dense(target).log().requires_grad_()
    loss = posterior_kl(same, target, reduction="none", rest="spread")
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-12)
    grad = gradient(loss, same)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)


@pytest.mark.parametrize("filler", [3.0, -torch.inf, float("nan")])
def test_padding_has_no_say_and_no_gradient(student: Tensor, filler: float) -> None:
    padding = torch.arange(7) >= torch.tensor(LENGTHS)[:, None]
    wider = torch.nn.functional.pad(student.detach(), (0, 0, 0, 2))
    dirty = wider.masked_fill(padding[..., None], filler).requires_grad_()
    target = ragged_target(table())
    loss = posterior_kl(dirty, target, reduction="none", rest="spread")
    assert torch.equal(loss, posterior_kl(student, target, reduction="none", rest="spread"))
    grad = gradient(loss, dirty)
    assert (grad[padding] == 0).all()
    assert grad[~padding].isfinite().all()


def test_half_precision_logits_keep_their_dtype_in_the_gradient(student: Tensor) -> None:
    half = student.detach().bfloat16().requires_grad_()
    loss = posterior_kl(half, ragged_target(table()), rest="spread")
    assert loss.dtype == torch.float32
    assert gradient(loss, half).dtype == torch.bfloat16


def test_the_dense_distribution_sums_to_one() -> None:
    target = ragged_target(table())
    logq = spread_rest(target.logp_BNC[0], target.ids_BNK[0], VOCABULARY, target.tail)
    torch.testing.assert_close(logq.exp(), dense(target)[0])
    torch.testing.assert_close(logq.exp().sum(-1), torch.ones(5, dtype=torch.float64))


def test_no_class_kept_is_the_model_alone() -> None:
    logq = spread_rest(torch.zeros(2, 1), torch.zeros(2, 0, dtype=torch.int64), 6, table())
    torch.testing.assert_close(logq, table().logw_RV[:1].log_softmax(-1).expand(2, 6))


def test_a_batch_moves_with_its_table() -> None:
    moved = to_device(ragged_target(table()), "meta")
    assert moved.tail is not None
    assert moved.tail.logw_RV.device.type == moved.logp_BNC.device.type == "meta"


def test_bad_input_is_one_sentence(student: Tensor) -> None:
    target = ragged_target(table())
    with pytest.raises(InputError, match="model of the rest is for 6 classes, the student has 7"):
        posterior_kl(torch.nn.functional.pad(student, (0, 1)), target, rest="spread")
    with pytest.raises(InputError, match="outside the vocabulary of 2"):
        posterior_kl(student[..., :2], replace(target, tail=None), rest="spread")
    with pytest.raises(ConfigError, match="rest is 'even'; expected one of joined, spread"):
        posterior_kl(student, target, rest="even")  # type: ignore[arg-type]
