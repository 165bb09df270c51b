from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_data import Case, gradient
from torch import Tensor

from kdcache.errors import InputError
from kdcache.loss import collapse_lattice, full_lattice_kl, lattice_kl, live_lattice_kl


def live(case: Case, student: Tensor, top_k: int = 0, reduction: str = "none") -> Tensor:
    lengths = (case.labels, case.frames, case.lengths)
    return live_lattice_kl(student, case.teacher, *lengths, 0, top_k, reduction)  # type: ignore[arg-type]


@pytest.mark.parametrize("top_k", [0, 3])
def test_live_equals_cached_where_nothing_is_lost(ragged: Case, top_k: int) -> None:
    student = ragged.student.clone().requires_grad_()
    cached = lattice_kl(student, ragged.target(top_k), ragged.labels, 0, "none")
    assert torch.equal(live(ragged, student, top_k), cached)
    assert torch.equal(gradient(live(ragged, student, top_k), student), gradient(cached, student))


def test_rounding_of_the_target_bounds_the_difference(ragged: Case) -> None:
    student, target, step = ragged.student.clone().requires_grad_(), ragged.target(), 1e-3
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(target.logp_BTSC.shape, generator=generator).double() * step
    logp = target.logp_BTSC + noise
    rounded = replace(target, logp_BTSC=logp - logp.logsumexp(-1, keepdim=True))
    cached = lattice_kl(student, rounded, ragged.labels, 0, "none")
    exact = live(ragged, student)
    # A class moves by at most e^step, so the gradient p − q does by at most that share of q.
    difference = (gradient(cached, student) - gradient(exact, student)).abs().max()
    assert 0 < float(difference) <= 2 * step
    assert not torch.equal(cached, exact)


def test_full_is_the_formula(ragged: Case) -> None:
    student = ragged.student.clone().requires_grad_()
    loss = full_lattice_kl(student, ragged.teacher, ragged.frames, ragged.lengths, "none")
    p, q = student.detach().log_softmax(-1), ragged.teacher.log_softmax(-1)
    expected_grad = torch.zeros_like(p)
    for row, (frames, length) in enumerate(zip(ragged.frames, ragged.lengths, strict=True)):
        part = (row, slice(0, int(frames)), slice(0, int(length) + 1))
        kl = (q[part].exp() * (q[part] - p[part])).sum()
        assert float(loss[row].detach()) == pytest.approx(float(kl), rel=1e-12)
        expected_grad[part] = p[part].exp() - q[part].exp()
    torch.testing.assert_close(gradient(loss, student), expected_grad)


def test_full_gradcheck(tiny: Case) -> None:
    def function(z: Tensor) -> Tensor:
        return full_lattice_kl(z, tiny.teacher, tiny.frames, tiny.lengths, "none")

    assert torch.autograd.gradcheck(function, (tiny.student.clone().requires_grad_(),))


def test_every_class_kept_is_the_full_kl(ragged: Case) -> None:
    full = full_lattice_kl(ragged.student, ragged.teacher, ragged.frames, ragged.lengths, "none")
    torch.testing.assert_close(live(ragged, ragged.student, top_k=6), full)
    assert (live(ragged, ragged.student) <= full + 1e-12).all()


def test_full_of_equals_is_zero(ragged: Case) -> None:
    same = (ragged.teacher, ragged.teacher, ragged.frames, ragged.lengths)
    torch.testing.assert_close(full_lattice_kl(*same), torch.zeros(()).double())


def test_full_reduces_and_normalises(ragged: Case) -> None:
    both = (ragged.student, ragged.teacher, ragged.frames, ragged.lengths)
    each = full_lattice_kl(*both, "none")
    torch.testing.assert_close(full_lattice_kl(*both, "sum"), each.sum())
    by_node = full_lattice_kl(*both, "none", "nodes")
    torch.testing.assert_close(by_node, each / torch.tensor([16, 3, 3, 1]))


def test_no_gradient_flows_to_the_teacher(ragged: Case) -> None:
    student = ragged.student.clone().requires_grad_()
    case = replace(ragged, teacher=ragged.teacher.clone().requires_grad_())
    loss = live(case, student, 2, "sum")
    loss = loss + full_lattice_kl(student, case.teacher, case.frames, case.lengths, "sum")
    loss.backward()
    assert case.teacher.grad is None
    assert student.grad is not None


def test_nan_in_padding_is_not_read_and_elsewhere_not_hidden(ragged: Case) -> None:
    clean = full_lattice_kl(ragged.student, ragged.teacher, ragged.frames, ragged.lengths, "none")
    for case_part in ("student", "teacher"):
        spoilt = getattr(ragged, case_part).clone()
        spoilt[1, 1:] = float("nan")
        case = replace(ragged, **{case_part: spoilt})
        full = full_lattice_kl(case.student, case.teacher, case.frames, case.lengths, "none")
        assert torch.equal(full, clean)
        assert live(case, case.student, 1).isfinite().all()
        spoilt[1, 0, 0, 1] = float("nan")
        full = full_lattice_kl(case.student, case.teacher, case.frames, case.lengths, "none")
        assert full.isnan().tolist() == [False, True, False, False]
        assert live(case, case.student, 1).isnan().tolist() == [False, True, False, False]


def test_collapsed_lattice_is_a_distribution(ragged: Case) -> None:
    target = collapse_lattice(
        ragged.teacher.requires_grad_(), ragged.labels, ragged.frames, ragged.lengths, 0, 2
    )
    assert not target.logp_BTSC.requires_grad
    for row, (frames, length) in enumerate(zip(ragged.frames, ragged.lengths, strict=True)):
        real = target.logp_BTSC[row, :frames, : length + 1]
        torch.testing.assert_close(real.logsumexp(-1), torch.zeros(real.shape[:2]).double())
        assert real[:, length, 1].isneginf().all()
        assert (real[..., 2] >= real[..., 3]).all()


def test_half_precision_student(ragged: Case) -> None:
    student = ragged.student.half().requires_grad_()
    loss = full_lattice_kl(student, ragged.teacher, ragged.frames, ragged.lengths, "sum")
    exact = ragged.student.half().double().requires_grad_()
    expected = full_lattice_kl(exact, ragged.teacher, ragged.frames, ragged.lengths, "sum")
    assert loss.dtype == torch.float32
    assert gradient(loss, student).dtype == torch.float16
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_shapes_that_differ_are_named(ragged: Case) -> None:
    with pytest.raises(InputError, match="expected the same"):
        full_lattice_kl(ragged.student[:2], ragged.teacher, ragged.frames, ragged.lengths)
    with pytest.raises(InputError, match="expected the same"):
        live(replace(ragged, teacher=ragged.teacher[..., :4]), ragged.student)
