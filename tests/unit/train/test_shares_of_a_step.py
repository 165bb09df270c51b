"""A step that is dealt to workers is the step of one: also where some have no micro-batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.train.loop import Trainer
from kdcache.train.settings import TrainSettings
from kdcache.train.stall import StallClock
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.stream.stream import Step

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


def trainer(tones: Path, out: Path, rank: int, size: int) -> Trainer:
    values: dict[str, Any] = {
        "out": out / f"{rank}-of-{size}",
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "batch_seconds": 4.0,
        "micro_batches_per_step": 4,
    }
    return Trainer(TrainSettings.model_validate(values), World(rank, size))


def last_step(trainer: Trainer) -> Step:
    return list(trainer.stream.steps())[-1]


def gradients(trainer: Trainer, step: Step) -> tuple[list[torch.Tensor], float]:
    """What a worker adds to a step: the gradient of each parameter, and the loss."""
    trainer.student.train()
    trainer.optimizer.zero_grad(set_to_none=True)
    totals = trainer._backward(step)
    parameters = list(trainer.student.parameters())
    grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    return grads, float(totals.get("rnnt", 0.0))


@pytest.mark.parametrize("size", [2, 4])
def test_the_last_step_weighs_every_utterance_the_same(
    tones: Path, tmp_path: Path, size: int
) -> None:
    alone = trainer(tones, tmp_path, 0, 1)
    step = last_step(alone)
    assert 0 < len(step.batches) < 4, "the corpus gives a last step that is not full"
    expected, loss = gradients(alone, step)
    workers = [trainer(tones, tmp_path, rank, size) for rank in range(size)]
    shares = [last_step(worker) for worker in workers]
    assert {share.utterances for share in shares} == {step.utterances}
    assert sum(len(share.batches) for share in shares) == len(step.batches)
    if size == 4:
        assert shares[-1].batches == ()
    found = [gradients(worker, share) for worker, share in zip(workers, shares, strict=True)]
    assert sum(part for _, part in found) == pytest.approx(loss, rel=1e-5)
    for number, whole in enumerate(expected):
        summed = torch.stack([grads[number] for grads, _ in found]).sum(0)
        torch.testing.assert_close(summed, whole, rtol=1e-4, atol=1e-6)


def test_a_worker_without_a_micro_batch_still_adds_to_the_sum(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would wait for its message for ever."""
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", sent.append)
    worker = trainer(tones, tmp_path, 3, 4)
    worker._clock = StallClock(World())
    worker._train_step(last_step(worker))
    sizes = [parameter.numel() for parameter in worker.student.parameters()]
    # Gradients, and of each parameter whether there was one.
    (gradients,) = (message for message in sent if message.numel() == sum(sizes) + len(sizes))
    assert not gradients.any()
    assert worker.step == 1
