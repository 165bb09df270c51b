from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from loss_data import Case, gradient, random_case
from torch import Tensor

from kdcache.batch import LatticeBatch
from kdcache.errors import ConfigError, InputError
from kdcache.lattice import node_ids, rnnt_loss
from kdcache.loss import lattice_kl, transducer_kd_loss


def classes_of_node(probabilities: Tensor, kept: list[int]) -> list[float]:
    """Probabilities of the kept classes and of the rest, added up one by one."""
    others = [v for v in range(len(probabilities)) if v not in kept]
    return [*(float(probabilities[k]) for k in kept), float(probabilities[others].sum())]


def naive_kl(case: Case, more: Tensor) -> list[float]:
    """The formula of arXiv 2011.06110, in loops, with more classes."""
    totals = []
    for row, (frames, labels) in enumerate(zip(case.frames, case.lengths, strict=True)):
        total = 0.0
        for t in range(int(frames)):
            for u in range(int(labels) + 1):
                kept = [0, *case.labels[row, u : int(labels)][:1].tolist()]
                kept += [k for k in more[row, t, u].tolist() if k >= 0]
                q = classes_of_node(case.teacher[row, t, u].softmax(-1), kept)
                p = classes_of_node(case.student[row, t, u].softmax(-1), kept)
                pairs = [(a, b) for a, b in zip(q, p, strict=True) if a > 0]
                total += sum(a * float(torch.tensor(a / b).double().log()) for a, b in pairs)
        totals.append(total)
    return totals


@pytest.mark.parametrize("top_k", [0, 2, 4])
def test_value_is_the_formula(ragged: Case, top_k: int) -> None:
    target = ragged.target(top_k)
    found = lattice_kl(ragged.student, target, ragged.labels, 0, "none")
    assert found.tolist() == pytest.approx(naive_kl(ragged, target.ids_BTSK), rel=1e-6)


@pytest.mark.parametrize("top_k", [0, 1, 3])
def test_gradcheck(tiny: Case, top_k: int) -> None:
    target = tiny.target(top_k)

    def function(z: Tensor) -> Tensor:
        return lattice_kl(z, target, tiny.labels, 0, "none")

    assert torch.autograd.gradcheck(function, (tiny.student.clone().requires_grad_(),))


def test_gradient_is_that_of_the_paper() -> None:
    case = random_case([3], [2])
    student = case.student.requires_grad_()
    grad = gradient(lattice_kl(student, case.target(), case.labels, 0), student)[0]
    p, q = student[0].detach().softmax(-1), case.teacher[0].softmax(-1)
    for t in range(3):
        for u in range(3):
            kept = [0, *case.labels[0, u : u + 1].tolist()]
            p_rest, q_rest = (1 - x[t, u, kept].sum() for x in (p, q))
            expected = p[t, u] * (1 - q_rest / p_rest)
            expected[kept] = p[t, u, kept] - q[t, u, kept]
            torch.testing.assert_close(grad[t, u], expected)


@pytest.mark.parametrize("top_k", [0, 3])
def test_student_like_teacher_is_zero_with_zero_gradient(ragged: Case, top_k: int) -> None:
    same = replace(ragged, student=ragged.teacher.clone().requires_grad_())
    loss = lattice_kl(same.student, same.target(top_k), same.labels, 0, "none")
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-12)
    grad = gradient(loss, same.student)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=1e-12)


def test_is_never_negative_and_grows_with_the_classes(ragged: Case) -> None:
    values = [
        lattice_kl(ragged.student, ragged.target(k), ragged.labels, 0, "none") for k in (0, 1, 2, 4)
    ]
    assert (values[0] >= 0).all()
    # Another class beside the rest can only tell more (data processing inequality).
    assert all((a <= b + 1e-12).all() for a, b in itertools.pairwise(values))


def test_rows_of_a_batch_are_what_they_are_alone(ragged: Case) -> None:
    target = ragged.target(2)
    together = lattice_kl(ragged.student, target, ragged.labels, 0, "none")
    for row, (frames, length) in enumerate(
        zip(ragged.frames.tolist(), ragged.lengths.tolist(), strict=True)
    ):
        part = (slice(row, row + 1), slice(0, frames), slice(0, length + 1))
        one = slice(row, row + 1)
        alone = LatticeBatch(
            target.logp_BTSC[part], target.ids_BTSK[part], ragged.frames[one], ragged.lengths[one]
        )
        labels = ragged.labels[one, :length]
        loss = lattice_kl(ragged.student[part], alone, labels, 0, "none")
        torch.testing.assert_close(loss, together[one])


@pytest.mark.parametrize("filler", [7.0, -torch.inf, float("nan")])
def test_padding_has_no_say_and_no_gradient(ragged: Case, filler: float) -> None:
    target = ragged.target(2)
    clean = ragged.student.clone().requires_grad_()
    loss = lattice_kl(clean, target, ragged.labels, 0, "none")
    padding = torch.ones(ragged.student.shape[:3], dtype=torch.bool)
    for row, (frames, length) in enumerate(zip(ragged.frames, ragged.lengths, strict=True)):
        padding[row, :frames, : length + 1] = False
    dirty = ragged.student.masked_fill(padding[..., None], filler).requires_grad_()
    spoilt = replace(target, logp_BTSC=target.logp_BTSC.masked_fill(padding[..., None], filler))
    spoilt_loss = lattice_kl(dirty, spoilt, ragged.labels, 0, "none")
    assert torch.equal(loss, spoilt_loss)
    grad = gradient(spoilt_loss, dirty)
    assert torch.equal(grad, gradient(loss, clean))
    assert (grad[padding] == 0).all()


def test_a_student_padded_further_is_the_same(ragged: Case) -> None:
    target = ragged.target(1)
    wider = torch.nn.functional.pad(ragged.student, (0, 0, 0, 1, 0, 2))
    torch.testing.assert_close(
        lattice_kl(wider, target, ragged.labels, 0),
        lattice_kl(ragged.student, target, ragged.labels, 0),
    )


def test_classes_of_teacher_probability_zero_contribute_nothing() -> None:
    case = random_case([1], [0], vocab=4)
    certain = torch.tensor([0.0, -torch.inf, -torch.inf])[None, None, None]
    target = LatticeBatch(
        certain, torch.empty(1, 1, 1, 0, dtype=torch.int64), case.frames, case.lengths
    )
    student = case.student.requires_grad_()
    loss = lattice_kl(student, target, case.labels, 0)
    torch.testing.assert_close(loss, -student.log_softmax(-1)[0, 0, 0, 0])
    expected = student.detach().softmax(-1)
    expected[..., 0] -= 1
    torch.testing.assert_close(gradient(loss, student), expected)


def test_missing_ids_are_ignored(ragged: Case) -> None:
    narrow, wide = ragged.target(2), ragged.target(9)
    assert (wide.ids_BTSK == -1).any()
    assert wide.logp_BTSC[wide.ids_BTSK[..., -1] == -1][0, -2].isneginf()
    full = lattice_kl(ragged.student, ragged.target(5), ragged.labels, 0, "none")
    torch.testing.assert_close(lattice_kl(ragged.student, wide, ragged.labels, 0, "none"), full)
    assert (lattice_kl(ragged.student, narrow, ragged.labels, 0, "none") <= full + 1e-12).all()


def test_an_impossible_class_of_the_student_is_infinite_not_clamped(ragged: Case) -> None:
    student = ragged.student.clone()
    student[0, 0, 0, 0] = -torch.inf
    loss = lattice_kl(student, ragged.target(), ragged.labels, 0, "none")
    assert loss[0] == torch.inf
    assert loss[1:].isfinite().all()


@pytest.mark.parametrize("of", ["student", "teacher"])
def test_nan_reaches_its_own_utterance_only(ragged: Case, of: str) -> None:
    student, target = ragged.student.clone(), ragged.target(1)
    if of == "student":
        student[2, 1, 0, 3] = float("nan")
    else:
        target.logp_BTSC[2, 1, 0] = float("nan")
    student.requires_grad_()
    loss = lattice_kl(student, target, ragged.labels, 0, "none")
    assert loss.isnan().tolist() == [False, False, True, False]
    grad = gradient(loss, student)
    assert grad[2].isnan().any()
    assert grad[[0, 1, 3]].isfinite().all()
    assert lattice_kl(student, target, ragged.labels, 0, "sum").isnan()


def test_reductions_and_normalisers(ragged: Case) -> None:
    def run(*how: str) -> Tensor:
        return lattice_kl(ragged.student, ragged.target(), ragged.labels, 0, *how)  # type: ignore[arg-type]

    each = run("none")
    torch.testing.assert_close(run("sum"), each.sum())
    torch.testing.assert_close(run("mean"), each.mean())
    torch.testing.assert_close(run("none", "labels"), each / torch.tensor([3, 2, 1, 1]))
    torch.testing.assert_close(run("none", "nodes"), each / torch.tensor([16, 3, 3, 1]))


def test_float32_is_near_float64() -> None:
    exact = random_case([60], [20], vocab=30)
    target = exact.target(4)
    coarse = replace(target, logp_BTSC=target.logp_BTSC.float())
    student, narrow = exact.student.requires_grad_(), exact.student.detach().float()
    narrow.requires_grad_()
    expected = lattice_kl(student, target, exact.labels, 0)
    found = lattice_kl(narrow, coarse, exact.labels, 0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        gradient(found, narrow).double(), gradient(expected, student), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("normalise", ["none", "labels"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_fused_loss_is_the_sum_of_its_parts(ragged: Case, reduction: str, normalise: str) -> None:
    target, student = ragged.target(2), ragged.student.clone().requires_grad_()
    how = (reduction, normalise)
    fused = transducer_kd_loss(student, target, ragged.labels, 0, 0.3, *how)  # type: ignore[arg-type]
    rnnt = rnnt_loss(student, ragged.labels, ragged.frames, ragged.lengths, 0, reduction)  # type: ignore[arg-type]
    kl = lattice_kl(student, target, ragged.labels, 0, *how)  # type: ignore[arg-type]
    torch.testing.assert_close(fused.rnnt, rnnt)
    torch.testing.assert_close(fused.kl, kl)
    torch.testing.assert_close(fused.total, rnnt + 0.3 * kl)
    torch.testing.assert_close(gradient(fused.total, student), gradient(rnnt + 0.3 * kl, student))


def test_fused_gradcheck(tiny: Case) -> None:
    target = tiny.target(1)

    def function(z: Tensor) -> Tensor:
        return transducer_kd_loss(z, target, tiny.labels, 0, 0.5, "none").total

    assert torch.autograd.gradcheck(function, (tiny.student.clone().requires_grad_(),))


def test_the_target_is_not_changed(ragged: Case) -> None:
    target, again = ragged.target(2), ragged.target(2)
    student = ragged.student.clone().requires_grad_()
    transducer_kd_loss(student, target, ragged.labels, 0, 0.5).total.backward()
    assert torch.equal(target.logp_BTSC, again.logp_BTSC)
    assert torch.equal(target.ids_BTSK, again.ids_BTSK)


def test_bad_input_is_one_sentence(ragged: Case) -> None:
    target = ragged.target(2)
    other, few = target.ids_BTSK.clone(), target.ids_BTSK[..., :1]
    other[0, 0, 0, 1] = 9
    with pytest.raises(InputError, match="Class id 9 is outside the vocabulary of 6"):
        lattice_kl(ragged.student, replace(target, ids_BTSK=other), ragged.labels, 0)
    with pytest.raises(InputError, match="must have the same frames and labels"):
        lattice_kl(ragged.student[:, :2], target, ragged.labels, 0)
    with pytest.raises(InputError, match="K \\+ 3"):
        lattice_kl(ragged.student, replace(target, ids_BTSK=few), ragged.labels, 0)
    with pytest.raises(ConfigError, match="normalise is 'node'.*Did you mean 'nodes'"):
        lattice_kl(ragged.student, target, ragged.labels, 0, "mean", "node")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reduction is 'avg'"):
        lattice_kl(ragged.student, target, ragged.labels, 0, "avg")  # type: ignore[arg-type]


def test_no_kept_class_repeats_blank_or_label(ragged: Case) -> None:
    ids = node_ids(ragged.labels, 0, ragged.student.shape, ragged.lengths)
    more = ragged.target(3).ids_BTSK
    assert not ((more[..., None] == ids[..., None, :]) & (more >= 0)[..., None]).any()
