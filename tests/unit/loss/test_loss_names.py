from __future__ import annotations

from inspect import isclass, isfunction

import pytest
import torch

import kdcache.lattice
import kdcache.loss
from kdcache.loss import class_kl


@pytest.mark.parametrize("room", [kdcache.lattice, kdcache.loss])
def test_public_names_are_sorted_documented_and_there(room: object) -> None:
    names = room.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    found = [getattr(room, name) for name in names]
    assert all(value.__doc__ for value in found if isclass(value) or isfunction(value))


def test_kl_of_certainty_is_minus_log() -> None:
    teacher = torch.tensor([0.0, -torch.inf])
    student = torch.tensor([0.25, 0.75]).log()
    assert float(class_kl(teacher, student)) == pytest.approx(1.3862944)


def test_kl_ignores_what_neither_has() -> None:
    teacher = torch.tensor([0.5, 0.5, 0.0]).log()
    assert float(class_kl(teacher, teacher.clone())) == 0


def test_kl_gradient_is_minus_the_teacher() -> None:
    teacher = torch.tensor([0.2, 0.8, 0.0]).log()
    student = torch.tensor([0.5, 0.3, 0.2]).log().requires_grad_()
    class_kl(teacher, student).backward()
    torch.testing.assert_close(student.grad, -teacher.exp())
