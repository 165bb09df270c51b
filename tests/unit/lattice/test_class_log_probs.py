from __future__ import annotations

import pytest
import torch
from lattices import Lattice, random_lattice
from torch import Tensor

from kdcache.errors import InputError
from kdcache.lattice import blocks, class_log_probs, node_ids, node_log_probs, top_classes


def kept_ids(lattice: Lattice, more: int = 2) -> Tensor:
    ids = node_ids(lattice.labels, 0, lattice.logits.shape, lattice.lengths)
    return torch.cat([ids, top_classes(lattice.logits, ids, more)], -1)


def naive(logits: Tensor, ids: Tensor) -> Tensor:
    """The same by log_softmax over everything and a Python loop."""
    logp = logits.log_softmax(-1)
    out = torch.full((*ids.shape[:3], ids.shape[3] + 1), -torch.inf, dtype=logits.dtype)
    for node in torch.cartesian_prod(*(torch.arange(n) for n in ids.shape[:3])).tolist():
        here = tuple(node)
        present = [k for k in ids[here].tolist() if k >= 0]
        others = [v for v in range(logits.shape[-1]) if v not in present]
        for slot, k in enumerate(ids[here].tolist()):
            if k >= 0:
                out[(*here, slot)] = logp[here][k]
        if others:
            out[(*here, ids.shape[3])] = logp[here][others].logsumexp(0)
    return out


def test_equals_log_softmax_class_by_class() -> None:
    lattice = random_lattice([4, 4], [3, 3], vocab=7)
    ids = kept_ids(lattice)
    torch.testing.assert_close(class_log_probs(lattice.logits, ids), naive(lattice.logits, ids))


def test_classes_of_a_node_sum_to_one(ragged: Lattice) -> None:
    logp = class_log_probs(ragged.logits, kept_ids(ragged))
    torch.testing.assert_close(logp.logsumexp(-1), torch.zeros(logp.shape[:3]).double())


@pytest.mark.parametrize("more", [0, 1, 4])
def test_gradient_in_float64(tiny: Lattice, more: int) -> None:
    logits, ids = tiny.logits.clone().requires_grad_(), kept_ids(tiny, more)

    def function(z: Tensor) -> Tensor:
        logp = class_log_probs(z, ids, tiny.frames, tiny.lengths)
        return logp.masked_fill(logp.isneginf(), 0.0)

    assert torch.autograd.gradcheck(function, (logits,))


def test_gradient_of_nodes_in_float64(tiny: Lattice) -> None:
    def function(z: Tensor) -> tuple[Tensor, Tensor]:
        blank, label = node_log_probs(z, tiny.labels, 0, tiny.frames, tiny.lengths)
        return blank, label.masked_fill(label.isneginf(), 0.0)

    assert torch.autograd.gradcheck(function, (tiny.logits.clone().requires_grad_(),))


@pytest.mark.parametrize("block", [1, 20, 1 << 20])
def test_blocks_of_any_size_give_the_same(
    ragged: Lattice, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> tuple[Tensor, Tensor | None]:
        logits = ragged.logits.clone().requires_grad_()
        logp = class_log_probs(logits, kept_ids(ragged), ragged.frames, ragged.lengths)
        logp[~logp.isneginf()].square().sum().backward()
        return logp.detach(), logits.grad

    whole = run()
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", block)
    for before, after in zip(whole, run(), strict=True):
        assert torch.equal(before, after)


def test_a_tiny_rest_keeps_its_digits() -> None:
    logits = torch.tensor([100.0, 90.0, -60.0, -61.0])[None, None, None]
    logp = class_log_probs(logits, torch.tensor([0, 1])[None, None, None])
    expected = torch.tensor([-60.0, -61.0]).double().logsumexp(0) - torch.tensor(
        [100.0, 90.0, -60.0, -61.0]
    ).double().logsumexp(0)
    assert float(logp[..., 2]) == pytest.approx(float(expected), rel=1e-6)


def test_gradient_through_a_rest_too_small_for_float32() -> None:
    logits = torch.tensor([200.0, 190.0, -60.0, -61.0])[None, None, None].requires_grad_()
    class_log_probs(logits, torch.tensor([0, 1])[None, None, None])[..., 2].sum().backward()
    share = torch.tensor([-60.0, -61.0]).softmax(0)
    expected = torch.cat([-torch.tensor([200.0, 190.0]).softmax(0), share])
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.flatten(), expected)


def test_a_vocabulary_without_rest() -> None:
    logits = torch.randn(1, 2, 1, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([2, 0, 1]).expand(1, 2, 1, 3)
    logp = class_log_probs(logits, ids)
    assert logp[..., 3].isneginf().all()
    torch.testing.assert_close(logp[..., :3], logits.log_softmax(-1)[..., [2, 0, 1]])
    assert torch.autograd.gradcheck(lambda z: class_log_probs(z, ids)[..., :3], (logits,))


def test_masked_logits_have_no_gradient_and_make_no_nan() -> None:
    logits = torch.randn(1, 1, 1, 5)
    logits[..., 2:] = -torch.inf
    logits.requires_grad_()
    logp = class_log_probs(logits, torch.tensor([0, 1])[None, None, None])
    assert logp[..., 2].isneginf().all()
    logp[..., 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[..., 2:] == 0).all()


def test_nothing_kept_is_all_rest() -> None:
    logits = torch.randn(1, 2, 1, 4, requires_grad=True)
    logp = class_log_probs(logits, torch.empty(1, 2, 1, 0, dtype=torch.int64))
    torch.testing.assert_close(logp, torch.zeros(1, 2, 1, 1))
    logp.sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_logits_are_computed_in_float32(ragged: Lattice, dtype: torch.dtype) -> None:
    logits = ragged.logits.to(dtype)
    leaf = logits.clone().requires_grad_()
    exact = logits.double().requires_grad_()
    ids = kept_ids(ragged)
    logp, expected = class_log_probs(leaf, ids), class_log_probs(exact, ids)
    assert logp.dtype == torch.float32
    torch.testing.assert_close(logp, expected.float())
    logp[..., 0].sum().backward()
    expected[..., 0].sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == dtype
    assert exact.grad is not None
    torch.testing.assert_close(leaf.grad, exact.grad.to(dtype))


def test_nan_in_padding_is_not_read(ragged: Lattice) -> None:
    logits = ragged.logits.clone()
    logits[1, 1:] = float("nan")
    logits[2, :, 1:] = float("nan")
    logits.requires_grad_()
    logp = class_log_probs(logits, kept_ids(ragged), ragged.frames, ragged.lengths)
    logp[~logp.isneginf()].sum().backward()
    assert not logp.isnan().any()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_nan_in_a_node_stays_there(ragged: Lattice) -> None:
    logits = ragged.logits.clone()
    logits[0, 1, 1, 3] = float("nan")
    logp = class_log_probs(logits, kept_ids(ragged))
    expected = torch.zeros(logp.shape[:3], dtype=torch.bool)
    expected[0, 1, 1] = True
    assert torch.equal(logp[..., 0].isnan(), expected)


def test_logits_padded_further_than_the_ids(ragged: Lattice) -> None:
    ids = kept_ids(ragged)
    wider = torch.nn.functional.pad(ragged.logits, (0, 0, 0, 2, 0, 3)).requires_grad_()
    logp = class_log_probs(wider, ids, ragged.frames, ragged.lengths)
    assert torch.equal(logp, class_log_probs(ragged.logits, ids, ragged.frames, ragged.lengths))
    logp[..., 0].sum().backward()
    assert wider.grad is not None
    assert wider.grad.shape == wider.shape
    assert (wider.grad[:, 4:] == 0).all()
    assert (wider.grad[:, :, 4:] == 0).all()


def test_the_gradient_is_the_only_lattice_sized_allocation() -> None:
    lattice = random_lattice([40], [19], vocab=1000, dtype=torch.float32)
    logits = lattice.logits.requires_grad_()
    ids = node_ids(lattice.labels, 0, logits.shape)
    size = logits.numel() * logits.element_size()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        class_log_probs(logits, ids)[..., 0].sum().backward()
    taken = [event.self_cpu_memory_usage for event in profile.events()]
    assert [bytes_ for bytes_ in taken if bytes_ > size // 2] == [size]


def test_top_classes_leave_out_blank_and_label(ragged: Lattice) -> None:
    ids = node_ids(ragged.labels, 0, ragged.logits.shape, ragged.lengths)
    found = top_classes(ragged.logits, ids, 2)
    assert (found >= 0).all()
    assert not (found[..., None] == ids[..., None, :]).any()
    chosen = ragged.logits.gather(-1, found)
    assert (chosen[..., 0] >= chosen[..., 1]).all()


def test_top_classes_of_a_small_vocabulary_end_in_minus_one() -> None:
    lattice = random_lattice([2], [1], vocab=3)
    ids = node_ids(lattice.labels, 0, lattice.logits.shape)
    found = top_classes(lattice.logits, ids, 5)
    assert found.shape == (1, 2, 2, 5)
    assert (found[:, :, 0] >= 0).sum(-1).eq(1).all()
    assert (found[:, :, 1] >= 0).sum(-1).eq(2).all()


def test_node_ids_have_no_label_beyond_a_length(ragged: Lattice) -> None:
    ids = node_ids(ragged.labels, 0, ragged.logits.shape, ragged.lengths)
    assert (ids[..., 0] == 0).all()
    for row, length in enumerate(ragged.lengths.tolist()):
        assert torch.equal(ids[row, 0, :length, 1], ragged.labels[row, :length])
        assert (ids[row, :, length:, 1] == -1).all()


def with_labels(values: list[list[int]]) -> dict[str, object]:
    return {"labels_BU": torch.tensor(values)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blank": 5}, "blank is 5; expected a class id from 0 to 4"),
        ({"blank": -1}, "blank is -1"),
        (with_labels([[1, 7]]), "Label 7 is outside the vocabulary of 5"),
        (with_labels([[1, 0]]), "Labels hold 0, which is the id of blank"),
        (with_labels([[1, -3]]), "Label -3 is negative within"),
        (with_labels([[1]]), r"Labels have shape \(1, 1\); expected \(1, at least 2\)"),
        ({"labels_BU": torch.tensor([[1.0, 2.0]])}, "expected int64"),
        ({"logits_BTUV": torch.zeros(1, 2, 3, 5, dtype=torch.int64)}, "expected a floating"),
    ],
)
def test_bad_input_is_one_sentence(change: dict[str, object], said: str) -> None:
    arguments: dict[str, object] = {
        "logits_BTUV": torch.zeros(1, 2, 3, 5),
        "labels_BU": torch.tensor([[1, 2]]),
        "blank": 0,
        "label_lengths_B": torch.tensor([2]),
    }
    with pytest.raises(InputError, match=said):
        node_log_probs(**{**arguments, **change})  # type: ignore[arg-type]


def test_ids_outside_the_vocabulary_are_named() -> None:
    with pytest.raises(InputError, match="Class id 9 is outside the vocabulary of 4"):
        class_log_probs(torch.zeros(1, 1, 1, 4), torch.tensor([0, 9])[None, None, None])


def test_more_nodes_than_logits_are_named() -> None:
    with pytest.raises(InputError, match="cannot hold the nodes"):
        class_log_probs(torch.zeros(1, 2, 2, 4), torch.zeros(1, 3, 2, 1, dtype=torch.int64))
