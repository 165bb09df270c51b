"""Memory that is used again: soon, but never while anything shows it."""

from __future__ import annotations

import gc
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.store import create_or_open
from kdcache.stream import stream_cache
from kdcache.stream.buffers import IDLE, SMALLEST, Buffers
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE = (SMALLEST // 4, 2)  # of float32: twice the smallest that is kept


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, "int64"])
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (7,), (SMALLEST,), (5, SMALLEST, 1)])
def test_arrays_are_what_was_asked_for(shape: tuple[int, ...], dtype: Any) -> None:
    array = Buffers().empty(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    array.fill(1)
    assert array.sum() == array.size


def test_what_nobody_holds_is_used_again() -> None:
    buffers = Buffers()
    first = buffers.empty(LARGE, np.float32)
    where = address(first)
    assert buffers.idle == 0
    del first
    assert buffers.idle >= 2 * SMALLEST
    again = buffers.empty((2, SMALLEST), np.uint8)  # another shape and type of the same size
    assert address(again) == where
    assert buffers.idle == 0


@pytest.mark.parametrize(
    "show",
    [
        lambda array: array[1:, :1],
        lambda array: array.reshape(-1).view(np.uint8)[5:],
        lambda array: memoryview(array),
        torch.from_numpy,
        lambda array: torch.from_numpy(array)[3:].view(-1),
        lambda array: torch.from_numpy(array).numpy()[2],
    ],
)
def test_what_anything_shows_is_not(show: Callable[[np.ndarray], Any]) -> None:
    buffers = Buffers()
    array = buffers.empty(LARGE, np.float32)
    array.fill(1)
    shown = show(array)
    del array
    gc.collect()
    assert buffers.idle == 0
    buffers.empty(LARGE, np.float32).fill(2)
    assert bytes(np.asarray(shown)[-1:].tobytes())[-1:] != np.float32(2).tobytes()[-1:]
    del shown
    gc.collect()
    assert buffers.idle == 2 * 2 * SMALLEST


def test_little_lies_idle() -> None:
    buffers = Buffers()
    held = [buffers.empty((SMALLEST,), np.uint8) for _ in range(2 * IDLE)]
    assert len({address(array) for array in held}) == 2 * IDLE
    held.clear()
    assert buffers.idle == IDLE * SMALLEST


def test_several_threads_never_share() -> None:
    buffers, wrong = Buffers(), []

    def work(number: int) -> None:
        for _ in range(300):
            array = buffers.empty((SMALLEST,), np.uint8)
            array.fill(number)
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert buffers.idle <= IDLE * SMALLEST


def test_a_copy_begins_with_nothing() -> None:
    buffers = Buffers()
    assert buffers.empty(LARGE, np.float32).size
    assert buffers.idle > 0
    assert pickle.loads(pickle.dumps(buffers)).idle == 0


def test_batches_that_are_kept_stay_what_they_were(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("kdcache.stream.buffers.SMALLEST", 1)
    writer = create_or_open(tmp_path / "cache", sample_spec(), "zarr", TOKENIZER_FILES)
    packed = [sample_packed(writer.spec, f"utt-{i:02d}") for i in range(40)]
    writer.commit("u0", packed, [], "x")
    stream = stream_cache(tmp_path / "cache", batch_seconds=20, seed=1)
    kept = list(stream)
    copies = [batch.lattice.logp_BTSC.clone() for batch in kept]
    for _ in range(3):  # more batches, in whatever memory there is
        assert sum(len(batch) for batch in stream) == 40
    for batch, copy in zip(kept, copies, strict=True):
        assert torch.equal(batch.lattice.logp_BTSC, copy)
