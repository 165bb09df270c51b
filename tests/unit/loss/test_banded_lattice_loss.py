"""Losses on a banded target: the band's nodes and no others, however the logits are given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from loss_data import Case, gradient, random_case

from kdcache.batch import LatticeBatch, to_device
from kdcache.errors import ConfigError, InputError
from kdcache.lattice import (
    BandRule,
    forward_backward,
    node_log_probs,
    node_occupancy,
    rnnt_loss,
    rnnt_loss_banded,
)
from kdcache.lattice.banded import at_band
from kdcache.loss import collapse_lattice, lattice_kl, live_lattice_kl, transducer_kd_loss

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.loss.classes import Nodes


@pytest.fixture
def mixed() -> Case:
    """Utterances of which some need no band, among them U = 0 and T = 1."""
    return random_case([6, 1, 5, 2, 4], [4, 2, 5, 0, 1], vocab=9, seed=3)


def target_of(case: Case, top_k: int = 0, epsilon: float | None = None) -> LatticeBatch:
    rule = BandRule(epsilon) if epsilon is not None else BandRule(width=2)
    return collapse_lattice(case.teacher, case.labels, case.frames, case.lengths, 0, top_k, rule)


def in_band(logits: Tensor, target: LatticeBatch) -> Tensor:
    assert target.starts_BT is not None
    return at_band(logits, target.starts_BT, target.logp_BTSC.shape[2])


def nodes_of(target: LatticeBatch) -> list[tuple[int, int, int, int]]:
    """(row, t, s, u) of all real nodes of the band, in loops."""
    assert target.starts_BT is not None
    found = []
    for row, (frames, labels) in enumerate(
        zip(target.frames_B.tolist(), target.labels_B.tolist(), strict=True)
    ):
        starts = target.starts_BT[row, :frames].tolist()
        width = labels + 1 - starts[-1]
        found += [(row, t, s, starts[t] + s) for t in range(frames) for s in range(width)]
    return found


@pytest.mark.parametrize("top_k", [0, 2, 9])
def test_a_band_holds_what_the_whole_lattice_holds_there(mixed: Case, top_k: int) -> None:
    band, whole = target_of(mixed, top_k), mixed.target(top_k)
    assert band.logp_BTSC.shape[2] < whole.logp_BTSC.shape[2]
    for row, t, s, u in nodes_of(band):
        torch.testing.assert_close(band.logp_BTSC[row, t, s], whole.logp_BTSC[row, t, u])
        assert torch.equal(band.ids_BTSK[row, t, s], whole.ids_BTSK[row, t, u])


def test_the_band_is_the_rules_on_the_teachers_occupancies(mixed: Case) -> None:
    target = target_of(mixed, epsilon=0.02)
    lengths = (mixed.frames, mixed.lengths)
    arcs = node_log_probs(mixed.teacher, mixed.labels, 0, *lengths)
    occupancy = node_occupancy(forward_backward(*arcs, *lengths)).numpy()
    assert target.starts_BT is not None
    for row, (frames, labels) in enumerate(zip(*map(torch.Tensor.tolist, lengths), strict=True)):
        band = BandRule(0.02).choose(occupancy[row, :frames, : labels + 1])
        assert target.starts_BT[row, :frames].tolist() == band.starts_T.tolist()
        assert labels + 1 - int(target.starts_BT[row, frames - 1]) == band.width


@pytest.mark.parametrize("top_k", [0, 2])
def test_value_is_the_sum_over_the_bands_nodes(mixed: Case, top_k: int) -> None:
    band = target_of(mixed, top_k)
    expected = torch.zeros(5, dtype=torch.float64)
    for row, t, s, u in nodes_of(band):
        one = torch.tensor([1])
        labels = mixed.labels[row : row + 1, u : int(mixed.lengths[row])][:, :1]
        node = LatticeBatch(
            band.logp_BTSC[row, t, s].view(1, 1, 1, -1),
            band.ids_BTSK[row, t, s].view(1, 1, 1, -1),
            one, one - 1,
        )  # fmt: skip
        # A single node of an utterance, with or without a label to come.
        wide = torch.nn.functional.pad(mixed.student[row, t, u].view(1, 1, 1, -1), (0, 0, 0, 1))
        if labels.shape[1]:
            node = replace(node, labels_B=one)
            pad = torch.zeros(1, 1, 1, node.logp_BTSC.shape[3])
            pad[..., 1:] = -torch.inf
            logp = torch.cat([node.logp_BTSC, pad.double()], 2)
            ids = torch.cat([node.ids_BTSK, torch.full_like(node.ids_BTSK, -1)], 2)
            node = replace(node, logp_BTSC=logp, ids_BTSK=ids)
            wide[0, 0, 1, 0] = 1e4  # blank for certain, as the padded target: adds nothing
        expected[row] += lattice_kl(wide, node, labels, 0, "sum")
    for nodes, logits in (("lattice", mixed.student), ("band", in_band(mixed.student, band))):
        found = lattice_kl(logits, band, mixed.labels, 0, "none", nodes=nodes)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("top_k", [0, 3])
def test_logits_of_the_band_alone_are_enough(mixed: Case, top_k: int) -> None:
    target, student = target_of(mixed, top_k), mixed.student.clone().requires_grad_()
    whole = lattice_kl(student, target, mixed.labels, 0, "none")
    band = lattice_kl(in_band(student, target), target, mixed.labels, 0, "none", nodes="band")
    torch.testing.assert_close(band, whole, rtol=0, atol=0)
    assert torch.equal(gradient(band, student), gradient(whole, student))


@pytest.mark.parametrize("nodes", ["lattice", "band"])
@pytest.mark.parametrize("top_k", [0, 3])
def test_fused_loss_is_the_sum_of_its_parts(mixed: Case, top_k: int, nodes: Nodes) -> None:
    target, lengths = (
        target_of(mixed, top_k),
        (mixed.labels, mixed.frames, mixed.lengths, 0, "none"),
    )
    logits = mixed.student.clone() if nodes == "lattice" else in_band(mixed.student, target)
    logits.requires_grad_()
    fused = transducer_kd_loss(logits, target, mixed.labels, 0, 0.3, "none", nodes=nodes)
    kl = lattice_kl(logits, target, mixed.labels, 0, "none", nodes=nodes)
    if nodes == "lattice":
        rnnt = rnnt_loss(logits, *lengths)  # type: ignore[arg-type]
    else:
        assert target.starts_BT is not None
        rnnt = rnnt_loss_banded(logits, target.starts_BT, *lengths)  # type: ignore[arg-type]
    torch.testing.assert_close(fused.rnnt, rnnt)
    torch.testing.assert_close(fused.kl, kl)
    torch.testing.assert_close(fused.total, rnnt + 0.3 * kl)
    torch.testing.assert_close(gradient(fused.total, logits), gradient(rnnt + 0.3 * kl, logits))


@pytest.mark.parametrize("nodes", ["lattice", "band"])
@pytest.mark.parametrize("top_k", [0, 1])
def test_gradcheck(top_k: int, nodes: Nodes) -> None:
    case = random_case([3, 2, 1], [3, 0, 1], vocab=4, seed=1)
    target = target_of(case, top_k)

    def function(z: Tensor) -> Tensor:
        return transducer_kd_loss(z, target, case.labels, 0, 0.5, "none", nodes=nodes).total

    logits = case.student if nodes == "lattice" else in_band(case.student, target)
    assert torch.autograd.gradcheck(function, (logits.clone().requires_grad_(),))


def test_no_band_is_the_whole_lattice_to_the_last_bit(mixed: Case) -> None:
    whole = mixed.target(1)
    widest = target_of(mixed, 1, epsilon=0.0)
    assert widest.logp_BTSC.shape == whole.logp_BTSC.shape
    for nodes in ("lattice", "band"):
        found = [
            transducer_kd_loss(mixed.student, t, mixed.labels, 0, 1.0, "none", nodes=nodes)  # type: ignore[arg-type]
            for t in (whole, replace(widest, starts_BT=torch.zeros_like(widest.starts_BT)))  # type: ignore[arg-type]
        ]
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("filler", [7.0, -torch.inf, float("nan")])
def test_what_is_not_in_the_band_is_not_read(mixed: Case, filler: float) -> None:
    target = target_of(mixed, 2)
    inside = torch.zeros(mixed.student.shape[:3], dtype=torch.bool)
    padding = torch.ones(target.logp_BTSC.shape[:3], dtype=torch.bool)
    for row, t, s, u in nodes_of(target):
        inside[row, t, u], padding[row, t, s] = True, False
    assert padding.any()
    clean = mixed.student.clone().requires_grad_()
    spoilt = mixed.student.masked_fill(~inside[..., None], filler).requires_grad_()
    bad = replace(
        target,
        logp_BTSC=target.logp_BTSC.masked_fill(padding[..., None], filler),
        ids_BTSK=target.ids_BTSK.masked_fill(padding[..., None], 1),
    )
    losses = [
        lattice_kl(z, t, mixed.labels, 0, "none") for z, t in ((clean, target), (spoilt, bad))
    ]
    assert torch.equal(*losses)
    grad = gradient(losses[1], spoilt)
    assert torch.equal(grad, gradient(losses[0], clean))
    assert (grad[~inside] == 0).all()
    fused = [
        transducer_kd_loss(clean, t, mixed.labels, 0, 1.0, "none").total for t in (target, bad)
    ]
    assert torch.equal(*fused)


def test_nan_in_the_band_reaches_its_own_utterance_only(mixed: Case) -> None:
    target = target_of(mixed)
    student = mixed.student.clone()
    student[2, 0, 0, 3] = float("nan")
    for nodes, logits in (("lattice", student), ("band", in_band(student, target))):
        loss = lattice_kl(logits, target, mixed.labels, 0, "none", nodes=nodes)  # type: ignore[arg-type]
        assert loss.isnan().tolist() == [False, False, True, False, False]


def test_normalisers_count_the_bands_nodes(mixed: Case) -> None:
    target = target_of(mixed)
    each = lattice_kl(mixed.student, target, mixed.labels, 0, "none")
    by_node = lattice_kl(mixed.student, target, mixed.labels, 0, "none", "nodes")
    counts = torch.tensor([row for row, *_ in nodes_of(target)]).bincount()
    torch.testing.assert_close(by_node, each / counts)
    by_label = lattice_kl(mixed.student, target, mixed.labels, 0, "none", "labels")
    torch.testing.assert_close(by_label, each / mixed.lengths.clamp(min=1))


@pytest.mark.parametrize("top_k", [0, 3])
def test_live_equals_cached_where_nothing_is_lost(mixed: Case, top_k: int) -> None:
    student, rule = mixed.student.clone().requires_grad_(), BandRule(0.05)
    lengths = (mixed.labels, mixed.frames, mixed.lengths, 0)
    target = collapse_lattice(mixed.teacher, *lengths, top_k, rule)
    cached = lattice_kl(student, target, mixed.labels, 0, "none")
    live = live_lattice_kl(student, mixed.teacher, *lengths, top_k, "none", band=rule)
    assert torch.equal(live, cached)
    assert torch.equal(gradient(live, student), gradient(cached, student))
    whole = live_lattice_kl(student, mixed.teacher, *lengths, top_k, "none", band=BandRule())
    assert (whole >= live).all()
    assert (whole > live).any()


def test_a_band_of_an_impossible_teacher_is_refused_by_name(mixed: Case) -> None:
    teacher = mixed.teacher.clone()
    teacher[0, :, 0, mixed.labels[0, 0]] = -torch.inf
    with pytest.raises(InputError, match="gives its labels no probability"):
        target_of(replace(mixed, teacher=teacher))
    teacher[0] = float("nan")
    with pytest.raises(InputError, match="the lattice holds NaN"):
        target_of(replace(mixed, teacher=teacher))


def test_a_banded_batch_moves_as_one(mixed: Case) -> None:
    moved = to_device(target_of(mixed, 1), "meta")
    assert moved.starts_BT is not None
    assert moved.starts_BT.device.type == "meta"
    assert to_device(mixed.target(), "meta").starts_BT is None


def test_bad_input_is_one_sentence(mixed: Case) -> None:
    target = target_of(mixed, 1)
    band = in_band(mixed.student, target)
    with pytest.raises(InputError, match='need nodes="band"'):
        lattice_kl(band, target, mixed.labels, 0)
    with pytest.raises(InputError, match="must have the same frames and labels"):
        lattice_kl(band[:, :3], target, mixed.labels, 0, nodes="band")
    with pytest.raises(ConfigError, match="nodes is 'bands'.*Did you mean 'band'"):
        lattice_kl(band, target, mixed.labels, 0, nodes="bands")  # type: ignore[arg-type]
    assert target.starts_BT is not None
    wrong = replace(target, starts_BT=target.starts_BT + 1)
    with pytest.raises(InputError, match="are no band of at most"):
        lattice_kl(band, wrong, mixed.labels, 0, nodes="band")
