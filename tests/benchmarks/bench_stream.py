"""Read a cache shuffled, decoded and batched, beside other containers of the same arrays.

    python tests/benchmarks/bench_stream.py                       2,000 utterances, a minute
    python tests/benchmarks/bench_stream.py --utterances 20000
    python tests/benchmarks/bench_stream.py --clock cpu           where others use the machine too
    python tests/benchmarks/bench_stream.py --workers 2           each as its makers advise

All readers give the same padded batches of the same utterances, in the thread that asks: each
takes packed arrays out of its container and hands them to the same codec and the same collation,
so that what differs is the container, its shuffle, its checks, and that our stream knows its
codecs and decodes a batch at once. Utterances per second of one process, the best of some rounds
in which all take turns, with the files in the page cache; ``--clock cpu`` counts the seconds that
all threads of the process compute, ours and those of peers, whatever else the machine does.
With ``--workers`` all read ahead instead: our stream in its thread, peers in so many worker
processes of the data loader that they come with or advise, which decode and batch as well and
stay from epoch to epoch. What these compute is on no clock of this process, so that only the
wall's counts; and each peer takes turns with ours in a process of its own, as not all peers bear
each other's workers. Peers that are not installed are left out; LitData and streaming ask for
packages without a CPU build, so install them with ``pip --no-deps`` and add what their imports
name.

- ``raw``       the arrays one after the other in a memory-mapped file, nothing checked
- ``webdataset npz``  plain webdataset, an npz member per utterance, a buffer of 1,000 to shuffle
- ``litdata``, ``mds``  LitData and MosaicML streaming, the same bytes in one blob per utterance

An utterance is 15 s: 375 frames of 16 classes (ids and 8-bit log-probabilities) and of an
80-wide int8 vector.
"""

from __future__ import annotations

import importlib.util
import io
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from rows import Row, arguments, publish

from kdcache.codec import make_codec
from kdcache.codec.records import PosteriorRecord, VectorRecord
from kdcache.store import CacheSpec, PackedUtterance, create_or_open, open_cache
from kdcache.stream import stream_cache
from kdcache.stream.collate import collate
from kdcache.stream.source import Example
from kdcache.testing.samples import TOKENIZER_FILES, sample_spec, sample_utterance
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    import argparse

FRAMES, CLASSES, WIDTH, VOCABULARY = 375, 16, 80, 500
SECONDS = 15.0
BATCH = 24
SHARD = 500

TARGETS = (
    TargetSpec(
        "encoder_logits", "encoder_logits", "posterior", {"top_k": CLASSES}, {"name": "log8"}
    ),
    TargetSpec("hidden", "hidden", "vector", {}, {"name": "int8"}),
)
Arrays = dict[str, np.ndarray]
Epoch = Callable[[int], Iterable[Any]]
Clock = Callable[[], float]
OURS = ("zarr", "webdataset")
PEERS = ("raw", "webdataset npz", "litdata", "mds")
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def spec() -> CacheSpec:
    base = sample_spec()
    return CacheSpec(teacher=base.teacher, tokenizer=base.tokenizer, targets=TARGETS).normalised()


def utterance_arrays(row: int) -> Arrays:
    """Packed columns of one utterance, from its number alone."""
    rng = np.random.default_rng(row)
    logp = np.sort(rng.gumbel(size=(FRAMES, CLASSES + 1)) * 3, axis=1)[:, ::-1]
    logp = logp - np.log(np.exp(logp).sum(1, keepdims=True))
    ids = (rng.integers(0, VOCABULARY, (FRAMES, 1)) + np.arange(CLASSES) * 7) % VOCABULARY
    posterior = PosteriorRecord(logp.astype(np.float32), ids.astype(np.int32))
    vectors = VectorRecord(rng.standard_normal((FRAMES, WIDTH)).astype(np.float32))
    records = {"encoder_logits": posterior, "hidden": vectors}
    return {
        f"{target.name}.{name}": array
        for target in TARGETS
        for name, array in make_codec(target.record, target.codec)
        .encode(records[target.name])
        .items()
    }


LIKE = utterance_arrays(0)
"""Whose arrays have the dtypes and shapes of all."""


def name_of(row: int) -> str:
    return f"utt-{row:06d}"


def unpack(name: str, arrays: Arrays) -> Example:
    """What every reader does with the arrays that it has found."""
    records = {}
    for target in TARGETS:
        own = {k.split(".")[1]: v for k, v in arrays.items() if k.startswith(target.name + ".")}
        records[target.name] = CODECS[target.name].decode(own)
    return Example(name, "", np.zeros(5, np.int64), None, records)


CODECS = {target.name: make_codec(target.record, target.codec) for target in TARGETS}


def batched(examples: Iterable[Example]) -> Iterator[Any]:
    waiting: list[Example] = []
    for example in examples:
        waiting.append(example)
        if len(waiting) == BATCH:
            yield collate(waiting)
            waiting = []
    if waiting:
        yield collate(waiting)


def kdcache_reader(folder: Path, layout: str, count: int, workers: int) -> Epoch:
    writer = create_or_open(str(folder), spec(), layout, TOKENIZER_FILES)
    for start in range(0, count, SHARD):
        packed = [
            PackedUtterance(
                utterance=sample_utterance(name_of(row)),
                duration=SECONDS,
                tokens=[1, 2, 3, 4, 5],
                frames=FRAMES,
                columns=utterance_arrays(row),
            )
            for row in range(start, min(start + SHARD, count))
        ]
        writer.commit(f"{start:064x}", packed, (), "bench")
    ahead = {} if workers else {"prefetch": 0}
    stream = stream_cache(open_cache(folder), batch_seconds=SECONDS * BATCH, seed=1, **ahead)
    return lambda _: stream


def raw_reader(folder: Path, count: int, workers: int) -> Epoch:
    folder.mkdir()
    sample = utterance_arrays(0)
    for name in sample:
        with (folder / name).open("wb") as file:
            for row in range(count):
                file.write(utterance_arrays(row)[name].tobytes())
    mapped = {
        name: np.memmap(folder / name, array.dtype, "r", shape=(count, *array.shape))
        for name, array in sample.items()
    }

    def read(row: int) -> Arrays:
        return {name: np.asarray(array[row]) for name, array in mapped.items()}

    def epoch(seed: int) -> Iterable[Any]:
        order = np.random.default_rng(seed).permutation(count).tolist()
        return batched(unpack(name_of(row), read(row)) for row in order)

    return epoch


def npz_of(row: int) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **utterance_arrays(row))
    return buffer.getvalue()


def in_workers(make: Callable[..., Any], data: Any, read: Callable[..., Any], count: int) -> Epoch:
    """A data loader whose workers read, decode and batch; they stay from epoch to epoch."""
    loader = make(
        data,
        batch_size=BATCH,
        num_workers=count,
        collate_fn=read,
        persistent_workers=True,
        multiprocessing_context="fork",  # as by default, but in a process that was spawned
    )
    return lambda _: loader


def collate_blobs(samples: list[dict[str, Any]]) -> Any:
    """What a worker does with the samples of a batch."""
    return collate([unpack("", from_blob(sample["blob"], LIKE)) for sample in samples])


def collate_npz(samples: list[dict[str, Any]]) -> Any:
    """The same of decoded members of a tar."""
    return collate([unpack(sample["__key__"], sample["npz"]) for sample in samples])


def webdataset_reader(folder: Path, count: int, workers: int) -> Epoch:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%04d.tar"), maxcount=SHARD, verbose=0) as sink:
        for row in range(count):
            sink.write({"__key__": name_of(row), "npz": npz_of(row)})
    shards = sorted(map(str, folder.glob("*.tar")))
    if workers:
        data = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=1).shuffle(1000)
        return in_workers(webdataset.WebLoader, data.decode(), collate_npz, workers)

    def epoch(seed: int) -> Iterable[Any]:
        data = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed).shuffle(1000)
        return batched(unpack(s["__key__"], s["npz"]) for s in data.decode())

    return epoch


def blob_of(row: int) -> bytes:
    """All arrays of an utterance, one after the other: the fastest sample that there is."""
    return b"".join(array.tobytes() for _, array in sorted(utterance_arrays(row).items()))


def from_blob(blob: bytes, like: Arrays) -> Arrays:
    arrays, start = {}, 0
    for name, array in sorted(like.items()):
        flat = np.frombuffer(blob, array.dtype, array.size, start)
        arrays[name] = flat.reshape(array.shape)
        start += array.nbytes
    return arrays


def litdata_reader(folder: Path, count: int, workers: int) -> Epoch:
    from litdata import StreamingDataLoader, StreamingDataset, optimize

    optimize(
        fn=_litdata_sample,
        inputs=list(range(count)),
        output_dir=str(folder),
        chunk_bytes="24MB",
        num_workers=1,
    )
    if workers:
        data = StreamingDataset(str(folder), shuffle=True, seed=1)
        return in_workers(StreamingDataLoader, data, collate_blobs, workers)

    def epoch(seed: int) -> Iterable[Any]:
        data = StreamingDataset(str(folder), shuffle=True, seed=seed)
        return batched(unpack("", from_blob(sample["blob"], LIKE)) for sample in data)

    return epoch


def _litdata_sample(row: int) -> dict[str, Any]:
    return {"row": row, "blob": blob_of(row)}


class StandIn(types.ModuleType):
    """A package of which only names are asked."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def mds_reader(folder: Path, count: int, workers: int) -> Epoch:
    import transformers.feature_extraction_utils  # noqa: F401  # before it can see the stand-in

    if importlib.util.find_spec("torchvision") is None:
        # streaming imports it for its picture datasets alone, and there is no build without CUDA.
        for name in ("", ".transforms", ".transforms.functional", ".datasets"):
            sys.modules["torchvision" + name] = StandIn("torchvision" + name)
    from streaming import MDSWriter, StreamingDataset

    with MDSWriter(out=str(folder), columns={"blob": "bytes"}, size_limit=1 << 24) as out:
        for row in range(count):
            out.write({"blob": blob_of(row)})
    data = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH, shuffle_seed=1)
    if workers:
        return in_workers(torch.utils.data.DataLoader, data, collate_blobs, workers)
    return lambda _: batched(unpack("", from_blob(sample["blob"], LIKE)) for sample in data)


MAKERS: dict[str, Callable[[Path, int, int], Epoch]] = {
    "zarr": lambda folder, *n: kdcache_reader(folder, "zarr", *n),
    "webdataset": lambda folder, *n: kdcache_reader(folder, "webdataset", *n),
    "raw": raw_reader,
    "webdataset npz": webdataset_reader,
    "litdata": litdata_reader,
    "mds": mds_reader,
}


def seconds(epoch: Epoch, seed: int, count: int, clock: Clock) -> float:
    """How long one epoch takes."""
    start, seen = clock(), 0
    for batch in epoch(seed):
        seen += len(batch)
    took = clock() - start
    assert seen == count, (seen, count)
    return took


def rates(epochs: dict[str, Epoch], count: int, rounds: int, clock: Clock) -> dict[str, float]:
    """Utterances per second of each, the best of some rounds after one that warms up.

    All take turns, so that whatever else the machine does in the meantime meets all alike.
    """
    took: dict[str, list[float]] = {name: [] for name in epochs}
    for seed in range(rounds + 1):
        for name, epoch in epochs.items():
            took[name].append(seconds(epoch, seed, count, clock))
    return {name: count / min(times[1:]) for name, times in took.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--workers", type=int, default=0, help="processes of each peer")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    options = parser.parse_args()
    if options.workers and options.clock != "wall":
        parser.error("what workers compute is on no clock of this process: --clock wall")
    rows = []
    if options.workers:
        peers = [[peer] for peer in options.peers if peer != "raw"]  # nobody advises on raw arrays
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as own:
            for found in own.map(partial(measure, options), peers):
                rows += rows_of("ahead", found)
    else:
        rows += rows_of("read", measure(options, options.peers))
    publish(rows, options.json)


def measure(options: argparse.Namespace, peers: Sequence[str]) -> dict[str, float]:
    """Utterances per second of both stores and of some peers, side by side."""
    torch.set_num_threads(1)
    epochs: dict[str, Epoch] = {}
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate([*OURS, *peers]):
            try:
                epochs[name] = MAKERS[name](
                    Path(folder) / str(place), options.utterances, options.workers
                )
            except ImportError as error:
                print(f"  {name} is left out: {error}")
        return rates(epochs, options.utterances, options.rounds, CLOCKS[options.clock])


def rows_of(what: str, found: dict[str, float]) -> list[Row]:
    return [
        Row(
            f"stream.{what}.{layout}",
            found[layout],
            "utterances/s",
            peer,
            found[layout] / found[peer],
        )
        for layout in OURS
        for peer in found
        if peer != layout
    ]


if __name__ == "__main__":
    main()
