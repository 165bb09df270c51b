"""What remains when a writer dies: at every single step, and by kill -9 at random moments."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from kdcache.errors import StorageFullError
from kdcache.store import (
    CacheWriter,
    collect_garbage,
    create_or_open,
    find_garbage,
    open_cache,
    verify,
)
from kdcache.store.header import load_header
from kdcache.store.local import LocalStorage
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS = ["zarr", "webdataset"]
UNITS = [f"u{i:03d}" for i in range(12)]

WRITER = """
import sys
from kdcache.store import create_or_open
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
path, layout, attempt, units = sys.argv[1:5]
writer = create_or_open(path, sample_spec(), layout, TOKENIZER_FILES)
packed = {u: [sample_packed(writer.spec, f"{u}-{i}") for i in range(3)] for u in units.split(",")}
print("ready", flush=True)
for unit, items in packed.items():
    if unit not in writer.committed_units():
        result = writer.commit(unit, items, [], attempt)
        print(unit, result.won, flush=True)
"""


class Stop(BaseException):
    """The power is gone: no handler may run on it."""


class DyingStorage(LocalStorage):
    """Dies just before or just after its n-th change."""

    def __init__(self, root: Path, steps: int, *, after: bool) -> None:
        super().__init__(root)
        self._left, self._after = steps, after

    def put(self, key: str, data: bytes) -> None:
        self._step(before=True)
        super().put(key, data)
        self._step(before=False)

    def create_exclusive(self, key: str, data: bytes) -> bool:
        self._step(before=True)
        created = super().create_exclusive(key, data)
        self._step(before=False)
        return created

    def _step(self, *, before: bool) -> None:
        if before:
            self._left -= 1
        if self._left == 0 and before != self._after:
            raise Stop


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_death_at_any_step_leaves_a_valid_cache(
    tmp_path: Path, layout: str, steps: int, after: bool
) -> None:
    path = tmp_path / "cache"
    writer = create_or_open(path, sample_spec(), layout, TOKENIZER_FILES)
    writer.commit("u0", [sample_packed(writer.spec, "a")], [], "x")
    dying = DyingStorage(path, steps, after=after)
    with pytest.raises(Stop):
        CacheWriter(dying, load_header(dying)).commit(
            "u1", [sample_packed(writer.spec, "b")], [], "dies"
        )
    visible = steps == 3 and after
    assert verify(path) == []
    assert open_cache(path).ids == (["a", "b"] if visible else ["a"])
    assert writer.commit("u1", [sample_packed(writer.spec, "b")], [], "y").won is not visible
    assert verify(path) == []
    assert open_cache(path).ids == ["a", "b"]
    assert find_garbage(path) == []


def test_a_death_while_creating_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    (path / "tokenizer").mkdir(parents=True)
    (path / "tokenizer" / "vocab.txt").write_bytes(b"half")
    (path / "tmp").mkdir()
    (path / "tmp" / "kdcache.json.00").write_bytes(b"{")
    writer = create_or_open(path, sample_spec(), "zarr", TOKENIZER_FILES)
    assert writer.committed_units() == set()
    assert verify(path) == []


def test_a_full_disk_is_one_sentence_and_nothing_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache"
    writer = create_or_open(path, sample_spec(), "webdataset", TOKENIZER_FILES)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdcache.store.local.os.fsync", full)
    with pytest.raises(StorageFullError, match="No space left on device; make room"):
        writer.commit("u0", [sample_packed(writer.spec, "a")], [], "x")
    monkeypatch.undo()
    assert writer.committed_units() == set()
    assert find_garbage(path) == []


def start(path: Path, layout: str, attempt: str) -> subprocess.Popen[str]:
    code = [sys.executable, "-c", WRITER, str(path), layout, attempt, ",".join(UNITS)]
    process = subprocess.Popen(code, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kill_9_at_random_moments(tmp_path: Path, layout: str) -> None:
    path, rng = tmp_path / "cache", random.Random(7)
    promised: set[str] = set()
    for attempt in range(3):
        process = start(path, layout, str(attempt))
        time.sleep(rng.uniform(0.01, 0.2))
        process.send_signal(signal.SIGKILL)
        printed, _ = process.communicate()
        promised |= {line.split()[0] for line in printed.splitlines() if line.endswith("True")}
        cache = open_cache(path)
        assert verify(path) == []
        assert promised <= set(cache.units)
        assert len(cache) == 3 * len(cache.units)
    collect_garbage(path, grace_seconds=0)
    last = start(path, layout, "last")
    last.communicate(timeout=120)
    cache = open_cache(path)
    assert cache.units == UNITS
    assert verify(path) == []
    whole = create_or_open(tmp_path / "whole", sample_spec(), layout, TOKENIZER_FILES)
    items = [sample_packed(whole.spec, f"{u}-{i}") for u in UNITS for i in range(3)]
    whole.commit("all", items, [], "x")
    assert cache.content_digest() == open_cache(whole.path).content_digest()


def test_two_processes_write_one_cache_while_a_third_reads(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    processes = [start(path, "webdataset", str(attempt)) for attempt in range(2)]
    cache, seen = open_cache(path), 0
    while any(process.poll() is None for process in processes):
        cache.refresh()
        assert len(cache) >= seen
        for utterance in cache.ids[seen:]:
            assert cache[utterance].keys() == {"lattice", "encoder_logits", "hidden"}
        seen = len(cache)
    won: dict[str, int] = dict.fromkeys(UNITS, 0)
    for process in processes:
        assert process.returncode == 0
        for line in process.communicate()[0].splitlines():
            won[line.split()[0]] += line.endswith("True")
    assert set(won.values()) == {1}
    assert verify(path) == []
    assert len(open_cache(path)) == 3 * len(UNITS)
