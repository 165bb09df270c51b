"""Whole shards from elsewhere: checked on arrival, fetched once, fetched again when damaged."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kdcache.errors import DamagedCacheError, StorageError
from kdcache.store.checksums import file_hash
from kdcache.store.disk_cache import DiskCache
from kdcache.store.fetched_shards import FetchedShards
from kdcache.store.files import FileRecord
from kdcache.store.local import LocalStorage
from kdcache.store.retry import Patience, read_patiently

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HASTE = Patience(tries=3, first=0.001)


class Remote:
    """A storage that counts what is asked of it, and answers as it is told."""

    def __init__(self, inner: LocalStorage) -> None:
        self._inner = inner
        self.whole: list[str] = []
        self.ranged: list[str] = []
        self.answer: Callable[[int, bytes], bytes] = lambda _, data: data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, key: str) -> bytes:
        self.whole.append(key)
        return self.answer(len(self.whole), self._inner.read(key))

    def read_ranges(self, key: str, spans: Any) -> Any:
        self.ranged.append(key)
        return self._inner.read_ranges(key, spans)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(LocalStorage(tmp_path / "remote"))


def put(remote: Remote, number: int, size: int = 1000) -> FileRecord:
    data = np.random.default_rng(number).bytes(size)
    record = FileRecord.of(f"data/{number}.tar", data)
    remote.put(record.path, data)
    return record


def reader(remote: Remote, tmp_path: Path, limit: int = 10**6) -> FetchedShards:
    return FetchedShards(remote, DiskCache(tmp_path / "disk", limit), HASTE)  # type: ignore[arg-type]


def expected(remote: Remote, record: FileRecord, start: int, length: int) -> bytes:
    return remote._inner.read(record.path)[start : start + length]


def test_spans_of_a_shard_that_is_fetched_once(remote: Remote, tmp_path: Path) -> None:
    record, shards = put(remote, 1), reader(remote, tmp_path)
    for _ in range(3):
        found = shards.read(record, [(0, 10), (990, 10), (995, 10), (5, 0)])
        assert [part.tobytes() for part in found] == [
            expected(remote, record, *span) for span in [(0, 10), (990, 10), (995, 5), (5, 0)]
        ]
    assert remote.whole == [record.path]
    assert dict(shards.counts) == {"misses": 1, "hits": 2, "fetched": 1, "fetched_bytes": 1000}


def test_what_an_earlier_process_fetched_is_checked_and_used(
    remote: Remote, tmp_path: Path
) -> None:
    record = put(remote, 1)
    reader(remote, tmp_path).read(record, [(0, 1)])
    again = reader(remote, tmp_path)
    assert again.read(record, [(0, 9)])[0].tobytes() == expected(remote, record, 0, 9)
    assert len(remote.whole) == 1
    assert again.counts["hits"] == 1


def test_a_file_that_rotted_on_disk_is_fetched_again(remote: Remote, tmp_path: Path) -> None:
    record = put(remote, 1)
    first = reader(remote, tmp_path)
    first.read(record, [(0, 1)])
    path = tmp_path / "disk" / first.disk.name(record)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    again = reader(remote, tmp_path)
    assert again.read(record, [(495, 10)])[0].tobytes() == expected(remote, record, 495, 10)
    assert len(remote.whole) == 2


def test_a_damaged_arrival_is_fetched_again(remote: Remote, tmp_path: Path) -> None:
    record, shards = put(remote, 1), reader(remote, tmp_path)
    remote.answer = lambda times, data: data[:-1] if times == 1 else data
    assert shards.read(record, [(990, 10)])[0].tobytes() == expected(remote, record, 990, 10)
    assert shards.counts["refetched"] == 1
    assert remote.ranged == []


def test_a_shard_that_is_damaged_where_it_lies_is_read_by_ranges(
    remote: Remote, tmp_path: Path
) -> None:
    """Its columns have hashes of their own: only damaged utterances are lost."""
    record, shards = put(remote, 1), reader(remote, tmp_path)
    remote.answer = lambda _, data: bytes(len(data))
    for _ in range(2):
        assert shards.read(record, [(3, 4)])[0].tobytes() == expected(remote, record, 3, 4)
    assert len(remote.whole) == HASTE.tries, "and is not fetched for each utterance"
    assert len(remote.ranged) == 2
    assert list((tmp_path / "disk").iterdir()) == [], "nothing damaged is kept"


def test_a_missing_shard_is_named(remote: Remote, tmp_path: Path) -> None:
    record, shards = put(remote, 1), reader(remote, tmp_path)
    remote.delete(record.path)
    with pytest.raises(DamagedCacheError, match=r"data/1\.tar: the file is missing"):
        shards.read(record, [(0, 1)])


def test_many_threads_fetch_one_shard_once(remote: Remote, tmp_path: Path) -> None:
    record, shards, start = put(remote, 1, 100_000), reader(remote, tmp_path), Barrier(8)
    remote.answer = lambda _, data: (time.sleep(0.05), data)[1]
    found: list[bytes] = []

    def work() -> None:
        start.wait()
        found.append(shards.read(record, [(7, 50_000)])[0].tobytes())

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {expected(remote, record, 7, 50_000)}
    assert len(found) == 8
    assert len(remote.whole) == 1


def test_two_processes_fetch_one_shard_once(remote: Remote, tmp_path: Path) -> None:
    record = put(remote, 1)
    one, other = reader(remote, tmp_path), reader(remote, tmp_path)
    remote.answer = lambda _, data: (time.sleep(0.2), data)[1]
    thread = Thread(target=one.fetch, args=(record,))
    thread.start()
    time.sleep(0.05)
    other.fetch(record)
    thread.join()
    assert len(remote.whole) == 1


def test_the_limit_is_kept_and_what_is_needed_stays(remote: Remote, tmp_path: Path) -> None:
    records = [put(remote, number) for number in range(6)]
    shards = reader(remote, tmp_path, limit=3000)
    shards.need(records[:2])
    for record in records:
        shards.read(record, [(0, 1)])
        assert shards.disk.nbytes <= 3000
    assert all(shards.disk.find(record) for record in records[:2])
    assert shards.has_room(records[3])
    shards.need(records[:4])
    assert not shards.has_room(records[4]), "the last room is for the one that was asked about"


def test_what_another_process_deleted_is_fetched_again(remote: Remote, tmp_path: Path) -> None:
    record, shards = put(remote, 1), reader(remote, tmp_path)
    [held] = shards.read(record, [(0, 1000)])
    shards.disk.discard(record)
    assert held.tobytes() == expected(remote, record, 0, 1000), "mapped, so still there"
    shards._forget([shards.disk.name(record)])
    assert shards.read(record, [(1, 1)])[0].tobytes() == expected(remote, record, 1, 1)
    assert len(remote.whole) == 2


def test_a_disk_that_forgets_at_once_is_named(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, shards = put(remote, 1), reader(remote, tmp_path)
    monkeypatch.setattr(shards.disk, "add", lambda record, data: None)
    with pytest.raises(StorageError, match=r"data/1\.tar: what was written to .*disk is not there"):
        shards.read(record, [(0, 1)])


# Patience


def test_errors_that_may_pass_are_tried_again_and_others_are_not() -> None:
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise StorageError("refused")
        return "found"

    patience = Patience(tries=5, first=0.001)
    assert read_patiently(work, "a", patience, again=lambda _: True) == "found"
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(StorageError, match="refused"):
        read_patiently(work, "a", patience, again=lambda error: "busy" in error.message)
    assert len(calls) == 1


def test_tries_and_time_have_an_end() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise StorageError("refused")

    with pytest.raises(StorageError):
        read_patiently(work, "a", Patience(tries=4, first=0.001), again=lambda _: True)
    assert len(calls) == 4
    with pytest.raises(StorageError):
        read_patiently(work, "a", Patience(tries=99, within=-1), again=lambda _: True)
    assert len(calls) == 5


def test_pauses_double_up_to_a_cap_and_differ_by_name() -> None:
    patience = Patience(first=1.0, longest=4.0)
    pauses = [patience.pause(failed, "a") for failed in range(1, 8)]
    for pause, most in zip(pauses, [1, 2, 4, 4, 4, 4, 4], strict=True):
        assert most / 2 <= pause <= most
    assert pauses == [patience.pause(failed, "a") for failed in range(1, 8)]
    assert pauses != [patience.pause(failed, "b") for failed in range(1, 8)]


READER = """
import json, random, sys
from kdcache.store.disk_cache import DiskCache
from kdcache.store.fetched_shards import FetchedShards
from kdcache.store.files import FileRecord
from kdcache.store.local import LocalStorage
remote, disk, limit, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
records = [FileRecord(**record) for record in json.load(sys.stdin)]
shards = FetchedShards(LocalStorage(remote), DiskCache(disk, limit))
draw, storage = random.Random(seed), LocalStorage(remote)
for turn in range(300):
    record = draw.choice(records)
    start = draw.randrange(record.size)
    [part] = shards.read(record, [(start, 100)])
    if part.tobytes() != storage.read(record.path)[start : start + 100]:
        sys.exit(f"{record.path}: other bytes")
    if turn == 0:
        print("begun", flush=True)
"""


def test_processes_share_a_disk_and_one_may_be_killed(remote: Remote, tmp_path: Path) -> None:
    records = [put(remote, number, 50_000) for number in range(12)]
    text = json.dumps([record.to_dict() for record in records])
    limit = 5 * 50_000
    command = [sys.executable, "-c", READER, str(tmp_path / "remote"), str(tmp_path / "disk")]
    readers = [
        subprocess.Popen([*command, str(limit), str(seed)], stdin=-1, stdout=-1, text=True)
        for seed in range(3)
    ]
    for process in readers:
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
    assert readers[0].stdout is not None
    readers[0].stdout.readline()
    readers[0].kill()
    codes = [process.wait(timeout=120) for process in readers]
    for process in readers:
        assert process.stdout is not None
        process.stdout.close()
    assert codes[1:] == [0, 0]
    left = sorted((tmp_path / "disk").glob("*.shard"))
    assert 0 < sum(path.stat().st_size for path in left) <= limit + 2 * 50_000
    for path in left:
        assert file_hash(path.read_bytes()) == path.stem
