"""What is particular to a local file system, and the probe that guards commits.

What every storage does is in tests/contract/test_storage_contract.py.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.errors import DamagedCacheError, StorageError, UnfitStorageError
from kdcache.store.files import FileRecord, check_file, map_file
from kdcache.store.local import LocalStorage
from kdcache.store.mapping import MappedFiles
from kdcache.store.storage import probe_exclusive_create

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "root")


def test_put_leaves_no_temporary(storage: LocalStorage) -> None:
    storage.put("a", b"old")
    storage.create_exclusive("a", b"new")
    assert [entry.key for entry in storage.entries()] == ["a"]


def test_spans_are_views_of_one_mapping(storage: LocalStorage) -> None:
    storage.put("a", b"0123456789")
    one, other = storage.read_ranges("a", [(0, 4), (2, 4)])
    assert np.shares_memory(one, other)


def test_a_failing_file_system_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StorageError, match="file"):
        LocalStorage(tmp_path / "file").put("a", b"")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StorageError, match="directory"):
        LocalStorage(tmp_path).read("directory")


class CarelessStorage(LocalStorage):
    """Accepts every second create, as some object stores' emulations do."""

    def create_exclusive(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


class LyingStorage(LocalStorage):
    """Says that it refused, after it has overwritten."""

    def create_exclusive(self, key: str, data: bytes) -> bool:
        fresh = not self.exists(key)
        self.put(key, data)
        return fresh


def test_the_probe_accepts_a_sound_storage(storage: LocalStorage) -> None:
    probe_exclusive_create(storage)
    assert storage.entries() == []


@pytest.mark.parametrize("kind", [CarelessStorage, LyingStorage])
def test_the_probe_refuses_an_unsound_storage(tmp_path: Path, kind: type[LocalStorage]) -> None:
    with pytest.raises(UnfitStorageError, match="two writers create one file"):
        probe_exclusive_create(kind(tmp_path))
    assert kind(tmp_path).entries() == []


def test_files_are_checked_by_size_and_hash(storage: LocalStorage) -> None:
    record = FileRecord.of("a", b"12345")
    storage.put("a", b"12345")
    assert check_file(storage, record) == b"12345"
    assert map_file(storage, record).tobytes() == b"12345"
    storage.put("a", b"12354")
    with pytest.raises(DamagedCacheError, match="not what was written"):
        check_file(storage, record)
    storage.put("a", b"1234")
    with pytest.raises(DamagedCacheError, match="4 bytes, expected 5"):
        map_file(storage, record)
    storage.delete("a")
    for check in (map_file, check_file):
        with pytest.raises(DamagedCacheError, match="missing"):
            check(storage, record)


def test_mapped_files_are_limited_and_views_outlive_them(storage: LocalStorage) -> None:
    records = [FileRecord.of(str(i), bytes([i]) * 10) for i in range(5)]
    for i, record in enumerate(records):
        storage.put(record.path, bytes([i]) * 10)
    files = MappedFiles(storage, limit=2)
    views = [files.get(record)[:3] for record in records]
    assert len(files) == 2
    assert [view.tolist() for view in views] == [[i] * 3 for i in range(5)]
    kept = files.get(records[3])
    files.get(records[0])
    assert files.get(records[3]) is kept


def test_mapped_files_serve_threads(storage: LocalStorage) -> None:
    records = [FileRecord.of(str(i), bytes([i]) * 4096) for i in range(8)]
    for i, record in enumerate(records):
        storage.put(record.path, bytes([i]) * 4096)
    files = MappedFiles(storage, limit=3)

    def read(index: int) -> bool:
        return bool(np.all(files.get(records[index % 8]) == index % 8))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))
    assert len(files) <= 3
