"""What a storage must do, wherever it lies. Subclass, give a storage, run with pytest.

class TestMyStorage(StorageContract):
    @pytest.fixture
    def storage(self): ...
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from kdcache.store.places import open_storage
from kdcache.store.storage import probe_exclusive_create

if TYPE_CHECKING:
    from kdcache.store import Storage


class StorageContract:
    """Tests of one kind of storage."""

    @pytest.fixture
    def storage(self) -> Storage:
        """An empty storage."""
        raise AssertionError("a subclass gives the storage")

    def test_what_is_put_is_read(self, storage: Storage) -> None:
        """Whole and in parts; arrays cannot be written to."""
        storage.put("a/b/c.bin", b"0123456789")
        assert storage.exists("a/b/c.bin")
        assert not storage.exists("a/b")
        assert storage.read("a/b/c.bin") == b"0123456789"
        assert storage.map("a/b/c.bin").tobytes() == b"0123456789"
        assert not storage.map("a/b/c.bin").flags.writeable

    def test_spans_are_read(self, storage: Storage) -> None:
        """In the order asked for; those beyond the end are short or empty."""
        storage.put("a", b"0123456789")
        spans = [(3, 4), (0, 1), (5, 0), (8, 99)]
        found = storage.read_ranges("a", spans)
        assert [part.tobytes() for part in found] == [b"3456", b"0", b"", b"89"]
        assert not any(part.flags.writeable for part in found)
        assert storage.read_ranges("a", []) == []
        assert [part.size for part in storage.read_ranges("a", [(10, 5), (700, 1)])] == [0, 0]

    def test_put_replaces(self, storage: Storage) -> None:
        """Who read before keeps what it has; nothing else is left behind."""
        storage.put("a", b"old")
        before = storage.map("a")
        storage.put("a", b"new")
        assert storage.read("a") == b"new"
        assert before.tobytes() == b"old"
        assert [entry.key for entry in storage.entries()] == ["a"]

    def test_an_empty_object(self, storage: Storage) -> None:
        """Is one, too."""
        storage.put("a", b"")
        assert storage.exists("a")
        assert storage.read("a") == b""
        assert storage.map("a").size == 0

    def test_exclusive_create_refuses_the_second(self, storage: Storage) -> None:
        """And leaves the first as it is."""
        assert storage.create_exclusive("a", b"first")
        assert not storage.create_exclusive("a", b"second")
        assert storage.read("a") == b"first"
        assert [entry.key for entry in storage.entries()] == ["a"]

    def test_of_many_exclusive_creates_one_wins(self, storage: Storage) -> None:
        """Whichever it is, its data is there."""
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda i: storage.create_exclusive("a", b"%d" % i), range(24)))
        assert sum(won) == 1
        assert storage.read("a") == b"%d" % won.index(True)

    def test_what_was_deleted_can_be_created_again(self, storage: Storage) -> None:
        """Repair rests on it."""
        storage.create_exclusive("a", b"first")
        storage.delete("a")
        assert storage.create_exclusive("a", b"second")
        assert storage.read("a") == b"second"

    def test_entries_are_sorted_and_sized(self, storage: Storage) -> None:
        """Below a folder, not below what merely starts like it."""
        for key in ("b/2", "a", "b/1", "bb/3"):
            storage.put(key, key.encode())
        found = [(entry.key, entry.size) for entry in storage.entries()]
        assert found == [("a", 1), ("b/1", 3), ("b/2", 3), ("bb/3", 4)]
        assert [entry.key for entry in storage.entries("b")] == ["b/1", "b/2"]
        assert storage.entries("missing") == []
        assert all(entry.modified > 1.5e9 for entry in storage.entries())

    def test_what_is_not_there(self, storage: Storage) -> None:
        """Reading it is FileNotFoundError, deleting it nothing."""
        assert not storage.exists("a")
        storage.delete("a")
        for read in (storage.read, storage.map, lambda key: storage.read_ranges(key, [(0, 1)])):
            with pytest.raises(FileNotFoundError):
                read("a")

    def test_the_probe_accepts_it(self, storage: Storage) -> None:
        """And leaves nothing behind."""
        probe_exclusive_create(storage)
        assert storage.entries() == []

    def test_its_location_opens_it_again(self, storage: Storage) -> None:
        """As a cache that travels to another process does."""
        storage.put("a/b", b"x")
        assert open_storage(storage.location).read("a/b") == b"x"
        assert open_storage(f"{storage.location}/a").read("b") == b"x"
