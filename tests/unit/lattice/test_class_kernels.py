"""The Triton kernels give what torch gives: on a GPU, or without one in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lattices import random_lattice

from kdcache.lattice import class_blocks, class_log_probs, classes, node_ids

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    # Read when the kernels are defined, which is when they are imported.
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is not installed: pip install 'kdcache[gpu]'")

# Infinities are what some of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
SIZES = ([3, 1, 2], [2, 1, 0])


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Used wherever the logits are."""
    from kdcache.lattice import class_kernels

    monkeypatch.setattr(classes, "passes", lambda device: class_kernels)
    return class_kernels


def both(logits: Tensor, ids: Tensor, *lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient by the kernels, and in torch."""
    found = []
    for by_kernels in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if not by_kernels:
                patch.setattr(classes, "passes", lambda device: class_blocks)
            leaf = logits.detach().to(DEVICE).requires_grad_()
            value = class_log_probs(leaf, ids.to(DEVICE), *(x.to(DEVICE) for x in lengths))
            weights = torch.linspace(-1, 2, value.numel(), device=DEVICE).view(value.shape)
            finite = value.masked_fill(value.isneginf(), 0.0)
            (finite * weights).sum().backward()  # type: ignore[no-untyped-call]
            assert leaf.grad is not None
            found.append((value.detach(), leaf.grad))
    return found


def ids_of(lattice: Any, *more: int) -> Tensor:
    ids = node_ids(lattice.labels, 0, lattice.logits.shape, lattice.lengths)
    kept = [torch.where(ids[..., 1] == k, -1, k) for k in more]
    return torch.cat([ids, *(k[..., None] for k in kept)], -1) if more else ids


@pytest.mark.parametrize(
    ("dtype", "more", "at_once"),
    [
        (torch.float32, (), 4096),
        (torch.float32, (3,), 4),
        (torch.float64, (1, 2, 3, 4), 4096),
        (torch.float64, (), 2),
        (torch.bfloat16, (3,), 4),
    ],
)
def test_values_and_gradients(
    dtype: torch.dtype,
    more: tuple[int, ...],
    at_once: int,
    kernels: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "_MOST_AT_ONCE", at_once)
    lattice = random_lattice(*SIZES, dtype=dtype)
    mine, other = both(lattice.logits, ids_of(lattice, *more), lattice.frames, lattice.lengths)
    assert [part.dtype for part in mine] == [part.dtype for part in other]
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {}
    torch.testing.assert_close(mine, other, **tolerance)


def test_logits_that_are_padded_further_or_lie_otherwise() -> None:
    lattice = random_lattice([2, 1], [1, 0])
    wide = torch.nn.functional.pad(lattice.logits, (0, 0, 0, 2, 0, 1), value=float("nan"))
    turned = wide.transpose(1, 3).contiguous().transpose(1, 3)
    for logits in (wide, turned):
        mine, other = both(logits, ids_of(lattice), lattice.frames, lattice.lengths)
        torch.testing.assert_close(mine, other)
        assert (mine[1][:, 2:] == 0).all()


@pytest.mark.parametrize("value", [-torch.inf, 80.0, float("nan"), torch.inf])
def test_extreme_logits(value: float) -> None:
    lattice = random_lattice([2, 1], [1, 0], dtype=torch.float32)
    logits = lattice.logits.clone()
    logits[0, 0, 0, 0] = value  # blank
    logits[0, 1, 0, 2:] = value  # the rest, or most of it
    logits[1, 0, 0, 4] = value
    mine, other = both(logits, ids_of(lattice), lattice.frames, lattice.lengths)
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_a_rest_of_nothing_keeps_its_digits() -> None:
    logits = torch.tensor([100.0, 0.0, -1.0, -2.0]).view(1, 1, 1, 4)
    ids = torch.tensor([0]).view(1, 1, 1, 1)
    mine, _ = both(logits, ids)
    expected = logits[..., 1:].logsumexp(-1) - 100
    torch.testing.assert_close(mine[0][..., 1].cpu(), expected)


def test_they_compile_for_gpus_that_are_not_here() -> None:
    """What the interpreter lets pass, such as types that change in a loop, is refused here."""
    script = Path(__file__).with_name("compile_kernels.py")
    setting = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, str(script)],
        env=setting | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 12


def test_off_a_gpu_no_kernel_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = [classes.passes(device).__name__ for device in ("cpu", "cuda")]
    assert names == ["kdcache.lattice.class_blocks", "kdcache.lattice.class_kernels"]
