"""Shards on the local disk: whole or not there, within the limit, and shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.errors import ConfigError, DamagedCacheError, StorageError
from kdcache.store.disk_cache import STALE_CLAIM, DiskCache
from kdcache.store.files import FileRecord

if TYPE_CHECKING:
    from pathlib import Path


def shard(number: int, size: int = 100) -> tuple[FileRecord, bytes]:
    data = bytes([number]) * size
    return FileRecord.of(f"data/{number}.tar", data), data


def names(disk: DiskCache) -> set[str]:
    return {path.name for path in disk.folder.iterdir()}


def age(disk: DiskCache, record: FileRecord, seconds: float) -> None:
    path = disk.folder / disk.name(record)
    os.utime(path, (time.time() - seconds,) * 2)


def test_what_was_added_is_found(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "a" / "b", 1000)
    record, data = shard(1)
    assert disk.find(record) is None
    path = disk.add(record, data)
    assert path.read_bytes() == data
    assert disk.find(record) == path
    assert names(disk) == {disk.name(record)}, "nothing temporary is left"
    assert disk.nbytes == 100


def test_another_cache_s_equal_shard_is_the_same_file(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 1000)
    record, data = shard(1)
    disk.add(record, data)
    assert disk.find(FileRecord("data/elsewhere.tar", record.size, record.xxh3))


def test_a_file_of_another_size_is_none_and_goes(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 1000)
    record, data = shard(1)
    disk.add(record, data)
    (tmp_path / disk.name(record)).write_bytes(data[:50])
    assert disk.find(record) is None
    assert names(disk) == set()


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 350)
    records = []
    for number in range(3):
        record, data = shard(number)
        disk.add(record, data)
        age(disk, record, 100 - number)
        records.append(record)
    assert disk.find(records[0]), "which marks it as used"
    assert disk.make_room(100, ()) == (True, [disk.name(records[1])])
    assert names(disk) == {disk.name(records[0]), disk.name(records[2])}
    assert disk.make_room(150, ()) == (True, []), "there is room"


def test_what_is_needed_stays(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 200)
    (first, a), (second, b) = shard(1), shard(2)
    disk.add(first, a)
    disk.add(second, b)
    age(disk, first, 100)
    room, gone = disk.make_room(100, {disk.name(first)})
    assert (room, gone) == (True, [disk.name(second)])
    assert disk.make_room(150, {disk.name(first)}) == (False, [])


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.integers(100, 600))
def test_it_keeps_its_limit(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]], limit: int
) -> None:
    disk = DiskCache(tmp_path_factory.mktemp("disk"), limit)
    for number, keep in steps:
        record, data = shard(number)
        needed = {disk.name(record)} if keep else set()
        if disk.find(record) is None and disk.make_room(record.size, needed)[0]:
            disk.add(record, data)
        assert disk.nbytes <= limit
        assert all(path.stat().st_size == 100 for path in disk.folder.iterdir())


def test_half_written_files_are_not_seen_and_go_when_old(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 1000)
    record, data = shard(1)
    half = tmp_path / f"{record.xxh3}.0123.tmp"
    half.write_bytes(data[:10])
    assert disk.find(record) is None
    assert disk.nbytes == 0
    DiskCache(tmp_path, 1000)
    assert half.exists(), "another process may be writing it"
    os.utime(half, (0, 0))
    DiskCache(tmp_path, 1000)
    assert not half.exists()


def test_one_process_claims_and_a_dead_one_s_claim_goes_stale(tmp_path: Path) -> None:
    record, _ = shard(1)
    one, other = DiskCache(tmp_path, 1000), DiskCache(tmp_path, 1000)
    assert one.claim(record)
    assert not other.claim(record)
    one.unclaim(record)
    assert other.claim(record)
    [claim] = tmp_path.glob("*.claim")
    os.utime(claim, (time.time() - 2 * STALE_CLAIM,) * 2)
    assert one.claim(record)
    assert not other.claim(record), "taken over, and fresh"


def test_the_claim_of_a_process_that_is_no_more_is_taken_over_at_once(tmp_path: Path) -> None:
    record, _ = shard(1)
    disk = DiskCache(tmp_path, 1000)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert disk.claim(record)
    [claim] = tmp_path.glob("*.claim")
    assert claim.read_text() == str(os.getpid())
    claim.write_text(str(process.pid))
    assert disk.claim(record)
    claim.write_text("")
    assert not disk.claim(record), "it may be about to write its number"


def test_many_writers_of_one_name(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, 10**9)
    record, data = shard(7, 1 << 20)
    seen: list[bytes] = []

    def work() -> None:
        for _ in range(10):
            disk.add(record, data)
            path = disk.find(record)
            seen.append(path.read_bytes() if path else b"")

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found == data for found in seen)
    assert len(seen) == 40
    assert names(disk) == {disk.name(record)}


@pytest.mark.parametrize("xxh3", ["../../etc/passwd", "", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_a_hash_that_is_none_names_no_file(tmp_path: Path, xxh3: str) -> None:
    with pytest.raises(DamagedCacheError, match=r"data/a\.tar: .* is no hash"):
        DiskCache(tmp_path, 1).name(FileRecord("data/a.tar", 1, xxh3))


def test_a_place_for_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"disk_cache '.*file/below' is no place"):
        DiskCache(tmp_path / "file" / "below", 1)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = DiskCache(tmp_path, 1000)
    record, data = shard(1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StorageError, match=r"No space left on device.*1,000 bytes"):
        disk.add(record, data)
    assert names(disk) == set()
