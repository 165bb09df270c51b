"""LF-MMI and sequence distillation against the sum over every path, written out."""

from __future__ import annotations

from itertools import groupby, product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.batch import PosteriorBatch
from kdcache.errors import InputError, SpecMismatchError
from kdcache.loss import graph_sum
from kdcache.loss.denominator import Denominator, denominator_of
from kdcache.loss.frames import FrameRatio
from kdcache.loss.graph_sum import graph_log_sum, graph_occupancy
from kdcache.loss.lf_mmi import aligned_sequence_kd, lf_mmi_loss, sequence_kl
from kdcache.loss.ngram import estimate_ngram

if TYPE_CHECKING:
    from torch import Tensor

LABELS = 2
BLANK = LABELS
V = LABELS + 1
ORDERS = (1, 2, 3)


def graph_of(order: int) -> Denominator:
    return denominator_of(estimate_ngram([(0, 1, 1, 0), (1,), (0, 0, 1)], LABELS, order))


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in groupby(path) if label != BLANK)


def brute_paths(logits_TV: Tensor, graph: Denominator) -> dict[tuple[int, ...], float]:
    """Unnormalised log-weight of each path."""
    logits = logits_TV.tolist()
    return {
        path: graph.ngram.log_prob(collapse(path)) + sum(logits[t][v] for t, v in enumerate(path))
        for path in product(range(V), repeat=len(logits))
    }


def log_sum(values: list[float]) -> float:
    return float(np.logaddexp.reduce(values))


def random_logits(*shape: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_sum_is_over_all_paths(order: int, frames: int) -> None:
    graph, logits = graph_of(order), random_logits(1, frames, V)
    paths = brute_paths(logits[0], graph)
    total = log_sum(list(paths.values()))
    found, occupancy = graph_occupancy(logits, torch.tensor([frames]), graph)
    assert float(found) == pytest.approx(total, rel=1e-12)
    expected = torch.zeros(frames, V, dtype=torch.float64)
    for path, weight in paths.items():
        for t, v in enumerate(path):
            expected[t, v] += np.exp(weight - total)
    torch.testing.assert_close(occupancy[0], expected, rtol=1e-10, atol=1e-12)


@given(
    order=st.sampled_from(ORDERS),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    spread=st.sampled_from([0.1, 3.0, 40.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_sums_of_a_batch_are_those_of_its_utterances(order, lengths, spread, seed) -> None:
    graph, frames = graph_of(order), torch.tensor(lengths)
    logits = random_logits(len(lengths), 4, V, seed=seed, spread=spread)
    padded = logits.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = torch.nan
    found, occupancy = graph_occupancy(padded, frames, graph)
    for row, length in enumerate(lengths):
        expected = log_sum(list(brute_paths(logits[row, :length], graph).values()))
        assert float(found[row]) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert not occupancy[row, length:].any()
        np.testing.assert_allclose(occupancy[row, :length].sum(-1), 1.0)


def test_no_frame_at_all_is_the_empty_sequence() -> None:
    graph = graph_of(2)
    (found,) = graph_log_sum(torch.zeros(1, 0, V), torch.tensor([0]), graph).tolist()
    assert found == pytest.approx(graph.ngram.log_prob(()))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, lengths = graph_of(2), torch.tensor([5, 3, 4])
    logits = random_logits(3, 5, V)
    whole = graph_occupancy(logits, lengths, graph)
    monkeypatch.setattr(graph_sum, "BLOCK", 1)
    torch.testing.assert_close(graph_occupancy(logits, lengths, graph), whole)


def test_long_utterances_keep_their_digits() -> None:
    """2,000 frames, far apart logits: log Z moves by exactly what all logits are moved by."""
    graph, logits = graph_of(3), random_logits(1, 2000, V, spread=30.0)
    frames = torch.tensor([2000])
    before, after = (graph_log_sum(x, frames, graph) for x in (logits, logits + 3.0))
    assert float(after - before) == pytest.approx(6000.0, rel=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("labels", [(), (0,), (0, 0), (1, 0)])
def test_lf_mmi_is_the_share_of_the_transcripts_paths(order: int, labels: tuple[int, ...]) -> None:
    graph, logits = graph_of(order), random_logits(1, 4, V)
    paths = brute_paths(logits[0], graph)
    own = [weight for path, weight in paths.items() if collapse(path) == labels]
    expected = log_sum(list(paths.values())) - log_sum(own)
    found = lf_mmi_loss(
        logits, torch.tensor([4]), torch.tensor([[*labels, 1]]), torch.tensor([len(labels)]), graph
    )
    assert float(found) == pytest.approx(expected, rel=1e-10)
    assert float(found) > 0


def test_one_frame() -> None:
    graph, logits = graph_of(2), random_logits(1, 1, V)
    lengths = [torch.tensor([n]) for n in (1, 1)]
    found = lf_mmi_loss(logits, lengths[0], torch.tensor([[1]]), lengths[1], graph)
    paths = brute_paths(logits[0], graph)
    assert float(found) == pytest.approx(log_sum(list(paths.values())) - paths[(1,)])


def test_lf_mmi_gradient() -> None:
    graph, frames = graph_of(2), torch.tensor([4, 3, 1])
    labels, lengths = torch.tensor([[0, 0], [1, 0], [0, 0]]), torch.tensor([2, 1, 0])
    logits = random_logits(3, 4, V).requires_grad_()

    def loss(x: Tensor) -> Tensor:
        return lf_mmi_loss(x, frames, labels, lengths, graph, "none")

    assert torch.autograd.gradcheck(loss, logits)
    loss(logits).sum().backward()
    assert logits.grad is not None
    assert not logits.grad[1, 3:].any()
    assert not logits.grad[2, 1:].any()
    # Occupancies of either side add up to 1 in each frame.
    torch.testing.assert_close(logits.grad.sum(-1), torch.zeros(3, 4, dtype=torch.float64))


def test_frames_constants_cancel() -> None:
    graph, frames, labels = graph_of(2), torch.tensor([5]), torch.tensor([[0, 1]])
    logits = random_logits(1, 5, V)
    args = (frames, labels, torch.tensor([2]), graph)
    moved = logits + random_logits(1, 5, 1, seed=1, spread=50.0)
    torch.testing.assert_close(lf_mmi_loss(logits, *args), lf_mmi_loss(moved, *args))


def test_a_transcript_without_a_path_is_infinite() -> None:
    found = lf_mmi_loss(
        random_logits(2, 2, V),
        torch.tensor([2, 2]),
        torch.tensor([[0, 0], [0, 1]]),
        torch.tensor([2, 2]),
        graph_of(2),
        "none",
    )
    assert found[0] == torch.inf
    assert found[1].isfinite()


def test_nan_stays_in_its_utterance() -> None:
    logits = random_logits(2, 3, V)
    logits[0, 1, 1] = torch.nan
    args = (torch.tensor([3, 3]), torch.tensor([[0], [0]]), torch.tensor([1, 1]), graph_of(2))
    found = lf_mmi_loss(logits, *args, "none")
    assert found.isnan().tolist() == [True, False]
    distance = sequence_kl(logits, random_logits(2, 3, V, seed=4), args[0], args[3])
    assert distance.isnan().tolist() == [True, False]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("frames", [1, 4])
def test_sequence_kl_is_over_paths(order: int, frames: int) -> None:
    graph, lengths = graph_of(order), torch.tensor([frames])
    student, teacher = (random_logits(1, frames, V, seed=seed) for seed in (1, 2))
    p, q = (brute_paths(x[0], graph) for x in (student, teacher))
    totals = [log_sum(list(x.values())) for x in (p, q)]
    expected = sum(
        np.exp(q[path] - totals[1]) * (q[path] - totals[1] - p[path] + totals[0]) for path in q
    )
    assert float(sequence_kl(student, teacher, lengths, graph)) == pytest.approx(expected, rel=1e-9)


def test_sequence_kl_gradient_is_the_difference_of_occupancies() -> None:
    graph, frames = graph_of(3), torch.tensor([4, 2, 0])
    teacher = random_logits(3, 4, V, seed=2)
    teacher[0, 1, 0] = -torch.inf
    logits = random_logits(3, 4, V, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sequence_kl(x, teacher, frames, graph), logits)
    sequence_kl(logits, teacher, frames, graph).sum().backward()
    own, other = (graph_occupancy(x, frames, graph)[1] for x in (logits, teacher))
    torch.testing.assert_close(logits.grad, own - other)


@given(st.integers(0, 500), st.sampled_from(ORDERS))
@settings(max_examples=30, deadline=None)
def test_sequence_kl_is_a_divergence(seed: int, order: int) -> None:
    graph, frames = graph_of(order), torch.tensor([4, 3])
    student, teacher = (random_logits(2, 4, V, seed=s) for s in (seed, seed + 1000))
    assert (sequence_kl(student, teacher, frames, graph) > 0).all()
    moved = teacher + random_logits(2, 4, 1, seed=seed + 1)
    same = sequence_kl(moved, teacher, frames, graph)
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-10, rtol=0)


def target_of(teacher: Tensor, lengths: list[int], kept: int = V) -> PosteriorBatch:
    logp = teacher.log_softmax(-1)
    values, ids = logp.topk(kept, dim=-1)
    rest = (1 - values.exp().sum(-1, keepdim=True)).clamp(min=0).log()
    return PosteriorBatch(torch.cat([values, rest], -1), ids, torch.tensor(lengths))


def test_from_the_cache_as_from_the_teacher() -> None:
    graph, lengths = graph_of(2), [4, 3]
    student, teacher = (random_logits(2, 4, V, seed=s) for s in (1, 2))
    frames = torch.tensor(lengths)
    expected = sequence_kl(student, teacher, frames, graph)
    for kept in (V, V - 1):  # a rest of one class is that class
        target = target_of(teacher, lengths, kept)
        found = aligned_sequence_kd(student, frames, target, graph, reduction="none")
        torch.testing.assert_close(found, expected)


def test_a_later_student_is_compared_with_earlier_frames() -> None:
    graph, teacher = graph_of(2), random_logits(1, 6, V, spread=4.0)
    late = torch.cat([random_logits(1, 2, V, seed=3), teacher[:, :4]], dim=1)
    target, frames = target_of(teacher, [6]), torch.tensor([6])
    shifted = aligned_sequence_kd(late, frames, target, graph, shifts=(2,))
    assert float(shifted) == pytest.approx(0.0, abs=1e-9)
    best = aligned_sequence_kd(late, frames, target, graph, shifts=range(4))
    assert float(best) == pytest.approx(float(shifted), abs=1e-9)
    assert float(aligned_sequence_kd(late, frames, target, graph)) > 0.1


def test_a_slower_student_holds_its_frames() -> None:
    graph, student = graph_of(2), random_logits(1, 3, V)
    teacher = student.repeat_interleave(2, dim=1)
    found = aligned_sequence_kd(
        student, torch.tensor([3]), target_of(teacher, [6]), graph, FrameRatio(2, 1)
    )
    assert float(found) == pytest.approx(0.0, abs=1e-9)


def test_what_does_not_fit_is_refused() -> None:
    graph, frames = graph_of(2), torch.tensor([3])
    with pytest.raises(InputError, match="the denominator's labels and blank"):
        graph_log_sum(torch.zeros(1, 3, V + 1), frames, graph)
    with pytest.raises(InputError, match="frames_B"):
        graph_log_sum(torch.zeros(1, 2, V), frames, graph)
    with pytest.raises(InputError, match="equal shapes"):
        sequence_kl(torch.zeros(1, 3, V), torch.zeros(1, 4, V), frames, graph)
    target = target_of(random_logits(1, 9, V), [9])
    with pytest.raises(SpecMismatchError, match="'u7'"):
        aligned_sequence_kd(torch.zeros(1, 3, V), frames, target, graph, ids=["u7"])
    target = target_of(random_logits(1, 3, V + 1), [3])
    with pytest.raises(InputError, match="share one tokenizer"):
        aligned_sequence_kd(torch.zeros(1, 3, V), frames, target, graph)


def test_a_half_precision_student_has_float32_losses() -> None:
    graph, frames = graph_of(2), torch.tensor([3])
    logits = random_logits(1, 3, V).bfloat16().requires_grad_()
    loss = lf_mmi_loss(logits, frames, torch.tensor([[1]]), torch.tensor([1]), graph)
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad.dtype == torch.bfloat16
