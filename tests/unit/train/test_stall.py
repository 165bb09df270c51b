"""The share of a step's time that is spent waiting, on the worker that waits longest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.train import note_of
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.stall import StallClock
from kdcache.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which tests set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_each_step_has_its_share(clock: list[float]) -> None:
    stall = StallClock(World())
    clock[0] = 104.0
    assert stall.tick(waited=1.0).to_dict() == {"seconds": 4.0, "waiting": 1.0, "stall": 0.25}
    clock[0] = 106.0
    assert stall.tick(waited=1.0).to_dict() == {"seconds": 6.0, "waiting": 1.0, "stall": 0.0}
    clock[0] = 110.0
    assert stall.tick(waited=4.0).to_dict() == {"seconds": 10.0, "waiting": 4.0, "stall": 0.75}


def test_the_slowest_worker_counts(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has its batch waits for the others in the sum of gradients."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.add_(torch.tensor([0, 3, 0])))
    stall = StallClock(World(rank=0, size=3))
    clock[0] = 104.0
    assert stall.tick(waited=0.5).to_dict() == {"seconds": 4.0, "waiting": 3.0, "stall": 0.75}


def test_no_share_is_above_one(clock: list[float]) -> None:
    assert StallClock(World()).tick(waited=2.0).stall == 1.0


def test_a_run_tells_its_stalls(tones: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "out": tmp_path,
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "student": SMALL,
        "optim": {"steps": 3},
        "batch_seconds": 4.0,
    }
    trainer = Trainer(TrainSettings.model_validate(values), World())
    plain = trainer.stream.source.load_batch

    def slow(rows: list[int]) -> Any:
        time.sleep(0.2)
        return plain(rows)

    trainer.stream.source.load_batch = slow  # type: ignore[method-assign]
    trainer.run()
    lines = read_metrics(tmp_path)
    assert all(0 <= line["stall"] <= 1 for line in lines)
    assert lines[0]["waiting"] >= 0.1
    assert lines[0]["stall"] > 0
    assert [line["waiting"] for line in lines] == sorted(line["waiting"] for line in lines)
    assert "stall" in note_of(lines[-1])


def test_the_note_is_of_the_whole_run() -> None:
    values = {"loss": 1.25, "waiting": 0.5, "seconds": 10.0, "stall": 0.9}
    assert note_of(values) == "loss 1.250, stall 5.0%"
    assert note_of({"loss": 2.0, "waiting": 0.0, "seconds": 0.0}) == "loss 2.000, stall 0.0%"


def test_a_stream_counts_what_it_gave(tones: Path) -> None:
    from kdcache.corpus import load_tokenizer, read_manifest
    from kdcache.stream import stream_corpus

    utterances = list(read_manifest(tones / "train.jsonl"))
    tokenizer = load_tokenizer(tones / "tokenizer")
    stream = stream_corpus(utterances, tokenizer, 16_000, batch_seconds=4.0)
    batches = list(stream)
    counters = stream.counters
    assert counters.batches == len(batches)
    assert counters.utterances == len(utterances)
    assert counters.waited == stream.waited > 0
    assert (counters.fetched_bytes, counters.hits) == (0, 0)
