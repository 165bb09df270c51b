"""The loss from the cache is the live teacher's, within what the codec states.

A teacher's belief goes the whole way (reduced, packed, committed, read back, padded) in both
layouts, and a student's loss and gradient on it are compared with those on the teacher's own
logits.

Let q be the teacher's class probabilities, q' the decoded ones and b the codec's bound on
|ln q' − ln q|. Then |q' − q| ≤ q (e^b − 1), and with student probabilities p, class by class,

    |q' ln(q'/p) − q ln(q/p)| ≤ q (e^b − 1) (|ln p| + |ln q|) + q e^b b,
    |∂L'/∂z − ∂L/∂z| ≤ q (e^b − 1)      at a kept class, and summed over the rest's classes.

Shapes: B batch, T frames, U labels (a node axis has U+1 entries), V vocabulary, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.codec.records import LatticeRecord
from kdcache.lattice import BandRule, node_mask
from kdcache.lattice.banded import at_band, band_widths
from kdcache.loss import collapse_lattice, lattice_kl, live_lattice_kl
from kdcache.loss.classes import student_classes
from kdcache.store import CacheSpec, PackedUtterance, create_or_open, open_cache
from kdcache.stream import stream_cache
from kdcache.target import make_target, target_spec
from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import save_small_transducer
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcache.batch import Batch, LatticeBatch
    from kdcache.store import Cache
    from kdcache.teacher import Teacher

TEXTS = {"one": "one two", "four": "four", "long": "three two one four"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    return load_teacher(save_small_transducer(folder, list(TEXTS.values()), hidden=32, layers=1))


def outputs_of(teacher: Teacher) -> dict[str, Any]:
    random = np.random.RandomState(3)
    audio = [0.1 * random.randn(9_000 + 4_000 * i).astype(np.float32) for i in range(len(TEXTS))]
    tokens = [teacher.tokenizer.encode(text) for text in TEXTS.values()]
    return dict(zip(TEXTS, teacher.forward(audio, tokens), strict=True))


def build_cache(
    teacher: Teacher,
    outputs: dict[str, Any],
    path: Path,
    layout: str,
    codec: str,
    top_k: int,
    **band: Any,
) -> Cache:
    target = target_spec({"kind": "lattice", "top_k": top_k, "codec": {"name": codec}, **band})
    spec = CacheSpec(teacher.spec, teacher.tokenizer.fingerprint, (target,)).normalised()
    writer = create_or_open(path, spec, layout, teacher.tokenizer.files())
    packed = []
    for name, output in outputs.items():
        reduced = make_target(target).reduce(output, spec.codec("lattice"))
        packed.append(
            PackedUtterance(
                Utterance(name, AudioRef("none.wav"), TEXTS[name]),
                duration=1.0,
                tokens=output.tokens,
                frames=output.frames,
                columns={f"lattice.{key}": value for key, value in reduced.columns.items()},
                fidelity={f"lattice.{key}": value for key, value in reduced.fidelity.items()},
            )
        )
    writer.commit("unit", packed, [], "attempt")
    return open_cache(path)


def padded_logits(outputs: dict[str, Any], batch: Batch) -> Tensor:
    """The live teacher's lattices in the batch's order, padded with zeros."""
    frames, columns = int(batch.lattice.frames_B.max()), int(batch.lattice.labels_B.max()) + 1
    classes = next(iter(outputs.values())).lattice.rows(0, 1).shape[-1]
    padded_BTUV = torch.zeros((len(batch), frames, columns, classes))
    for row, name in enumerate(batch.ids):
        logits_TUV = outputs[name].lattice.rows(0, outputs[name].frames)
        padded_BTUV[row, : logits_TUV.shape[0], : logits_TUV.shape[1]] = logits_TUV
    return padded_BTUV


def columns_of(target: LatticeBatch) -> Tensor:
    """S of each utterance: (B,)."""
    if target.starts_BT is None:
        return target.labels_B + 1
    return band_widths(target.starts_BT, target.frames_B, target.labels_B)


def stated_bounds(
    cache: Cache, batch: Batch, live_BTSC: Tensor, student_BTSC: Tensor
) -> tuple[Tensor, Tensor]:
    """Bounds on each utterance's loss (B,) and on the gradient at each class."""
    error_BTSC = torch.zeros_like(live_BTSC)
    for row in range(len(batch)):
        frames, columns = int(batch.lattice.frames_B[row]), int(columns_of(batch.lattice)[row])
        record = LatticeRecord(
            live_BTSC[row, :frames, :columns].numpy(),
            batch.lattice.ids_BTSK[row, :frames, :columns].numpy().astype(np.int32),
        )
        bound = cache.codec("lattice").error_bound(record)
        error_BTSC[row, :frames, :columns] = torch.from_numpy(np.asarray(bound, np.float32))
    there_BTSC = error_BTSC.isfinite() & live_BTSC.isfinite()
    error_BTSC = error_BTSC.where(there_BTSC, torch.tensor(0.0))
    log_q = live_BTSC.where(there_BTSC, torch.tensor(0.0))
    log_p = student_BTSC.where(there_BTSC, torch.tensor(0.0))
    q = log_q.exp() * there_BTSC
    moved = q * torch.expm1(error_BTSC)
    loss = moved * (log_p.abs() + log_q.abs()) + q * error_BTSC.exp() * error_BTSC
    return loss.sum((1, 2, 3)), moved


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
@pytest.mark.parametrize(
    ("codec", "top_k"), [("log8", 0), ("log8", 3), ("fp16", 0), ("root", 0), ("root", 3)]
)
def test_value_and_gradient(
    teacher: Teacher, tmp_path: Path, layout: str, codec: str, top_k: int
) -> None:
    outputs = outputs_of(teacher)
    cache = build_cache(teacher, outputs, tmp_path / "cache", layout, codec, top_k)
    (batch,) = stream_cache(cache, batch_seconds=100)
    blank = teacher.spec.blank_id
    assert blank is not None
    live_logits = padded_logits(outputs, batch)
    lengths = (batch.lattice.frames_B, batch.lattice.labels_B)
    student = torch.randn(live_logits.shape, generator=torch.Generator().manual_seed(5))
    cached_student, live_student = (student.clone().requires_grad_() for _ in range(2))
    cached_B = lattice_kl(cached_student, batch.lattice, batch.labels_BU, blank, reduction="none")
    live_B = live_lattice_kl(
        live_student, live_logits, batch.labels_BU, *lengths, blank, top_k=top_k, reduction="none"
    )
    cached_B.sum().backward()
    live_B.sum().backward()

    live_classes = collapse_lattice(live_logits, batch.labels_BU, *lengths, blank, top_k)
    real_BTU = node_mask(*lengths, *live_logits.shape[1:3])
    assert torch.equal(live_classes.ids_BTSK[real_BTU], batch.lattice.ids_BTSK[real_BTU])
    log_p = student_classes(student, batch.lattice, batch.labels_BU, blank)
    loss_bound_B, gradient_bound = stated_bounds(cache, batch, live_classes.logp_BTSC, log_p)

    assert (loss_bound_B > 0).all()
    assert ((cached_B - live_B).abs() <= loss_bound_B + 1e-4 * live_B.abs()).all()
    assert cached_student.grad is not None
    assert live_student.grad is not None
    # Summed over a node's classes, each class's share of the rest included.
    difference_BTU = (cached_student.grad - live_student.grad).abs().sum(-1)
    assert (difference_BTU <= gradient_bound.sum(-1) + 1e-5).all()


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
@pytest.mark.parametrize(
    ("codec", "top_k", "band"),
    [
        ("log8", 0, {"width": 3}),
        ("log8", 3, {"epsilon": 0.02}),
        ("fp16", 2, {"epsilon": 0.3, "width": 4}),
        ("root", 3, {"epsilon": 0.02}),
    ],
)
def test_value_and_gradient_of_a_band(
    teacher: Teacher, tmp_path: Path, layout: str, codec: str, top_k: int, band: dict[str, Any]
) -> None:
    outputs = outputs_of(teacher)
    cache = build_cache(teacher, outputs, tmp_path / "cache", layout, codec, top_k, **band)
    (batch,) = stream_cache(cache, batch_seconds=100)
    target, blank, rule = batch.lattice, teacher.spec.blank_id, BandRule(**band)
    assert blank is not None
    live_logits, lengths = padded_logits(outputs, batch), (target.frames_B, target.labels_B)
    live = collapse_lattice(live_logits, batch.labels_BU, *lengths, blank, top_k, rule)
    assert target.starts_BT is not None
    assert live.starts_BT is not None
    assert torch.equal(live.starts_BT, target.starts_BT)
    width = target.logp_BTSC.shape[2]
    assert width < live_logits.shape[2]

    student = torch.randn(live_logits.shape, generator=torch.Generator().manual_seed(5))
    cached_student = at_band(student, target.starts_BT, width).requires_grad_()
    live_student = student.clone().requires_grad_()
    cached_B = lattice_kl(
        cached_student, target, batch.labels_BU, blank, reduction="none", nodes="band"
    )
    live_B = live_lattice_kl(
        live_student, live_logits, batch.labels_BU, *lengths, blank, top_k, "none", band=rule
    )
    cached_B.sum().backward()
    live_B.sum().backward()

    log_p = student_classes(student, target, batch.labels_BU, blank)
    loss_bound_B, gradient_bound = stated_bounds(cache, batch, live.logp_BTSC, log_p)
    assert (loss_bound_B > 0).all()
    assert ((cached_B - live_B).abs() <= loss_bound_B + 1e-4 * live_B.abs()).all()
    assert cached_student.grad is not None
    assert live_student.grad is not None
    expected_grad = at_band(live_student.grad, target.starts_BT, width)
    real_BTS = node_mask(target.frames_B, columns_of(target) - 1, *expected_grad.shape[1:3])
    difference_BTS = (cached_student.grad - expected_grad).abs().sum(-1)
    assert (difference_BTS <= gradient_bound.sum(-1) + 1e-5)[real_BTS].all()
    assert (cached_student.grad[~real_BTS] == 0).all()
    # The live gradient is nowhere but in the band.
    inside = expected_grad[real_BTS].abs().sum()
    torch.testing.assert_close(live_student.grad.abs().sum(), inside)


def test_the_bound_is_tight_enough_to_mean_something(teacher: Teacher, tmp_path: Path) -> None:
    outputs = outputs_of(teacher)
    cache = build_cache(teacher, outputs, tmp_path / "cache", "zarr", "log8", 0)
    (batch,) = stream_cache(cache, batch_seconds=100)
    lengths = (batch.lattice.frames_B, batch.lattice.labels_B)
    blank = teacher.spec.blank_id
    assert blank is not None
    logits = padded_logits(outputs, batch)
    live = collapse_lattice(logits, batch.labels_BU, *lengths, blank, 0)
    student = torch.zeros_like(logits)
    cached_B = lattice_kl(student, batch.lattice, batch.labels_BU, blank, reduction="none")
    live_B = lattice_kl(student, live, batch.labels_BU, blank, reduction="none")
    assert ((cached_B - live_B).abs() < 0.02 * live_B).all()


def test_another_teacher_would_be_noticed(teacher: Teacher, tmp_path: Path) -> None:
    """The comparison above can fail: a cache of another teacher is far outside the bound."""
    outputs = outputs_of(teacher)
    other = load_teacher(
        save_small_transducer(tmp_path / "other", list(TEXTS.values()), hidden=32, layers=1, seed=1)
    )
    cache = build_cache(teacher, outputs, tmp_path / "cache", "zarr", "log8", 0)
    (batch,) = stream_cache(cache, batch_seconds=100)
    lengths = (batch.lattice.frames_B, batch.lattice.labels_B)
    blank = teacher.spec.blank_id
    assert blank is not None
    logits = padded_logits(outputs_of(other), batch)
    live = collapse_lattice(logits, batch.labels_BU, *lengths, blank, 0)
    gradients = []
    for target in (batch.lattice, live):
        student = torch.zeros_like(logits, requires_grad=True)
        lattice_kl(student, target, batch.labels_BU, blank, reduction="sum").backward()
        assert student.grad is not None
        gradients.append(student.grad)
    own = student_classes(torch.zeros_like(logits), batch.lattice, batch.labels_BU, blank)
    _, gradient_bound = stated_bounds(cache, batch, live.logp_BTSC, own)
    difference_BTU = (gradients[0] - gradients[1]).abs().sum(-1)
    real_BTU = node_mask(*lengths, *logits.shape[1:3])
    assert (difference_BTU > 2 * gradient_bound.sum(-1))[real_BTU].float().mean() > 0.5
