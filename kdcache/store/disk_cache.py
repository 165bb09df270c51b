"""A directory of whole shards that were fetched from an object store.

A file is named by the hash of its bytes, so that several processes, and several caches, can share
a directory: whatever stands there under a name is the same for all. It appears by renaming, so
that nobody sees half of it, and nobody holds a lock: a file that another process has deleted
meanwhile is fetched again, and one that is mapped stays readable until it is let go.

Beyond its limit the directory loses the files that were used longest ago, and never one that this
process says it needs. A claim, a small file that goes stale, keeps processes of one machine from
fetching the same shard at the same time; it is a courtesy, and nothing rests on it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError, DamagedCacheError, StorageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from kdcache.store.files import FileRecord

SUFFIX = ".shard"
_TEMPORARY, _CLAIM = ".tmp", ".claim"
_HASH = re.compile(r"[0-9a-f]{32}")

STALE_CLAIM = 60.0
"""Seconds after which a claim is held to be that of a process that died, of this machine or not."""

_STALE_FILE = 3600.0
"""Seconds after which a half-written file is."""


class DiskCache:
    """Shards in a directory of the local disk, kept within a limit.

    Args:
        folder: made if it is not there.
        limit: bytes of shards to keep, at most. Processes that add one at the same moment may
            exceed it by that one.

    Raises:
        ConfigError: no directory can be made there.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int) -> None:
        self.folder, self.limit = Path(folder), limit
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"disk_cache {str(folder)!r} is no place for a directory: {error.strerror}; name "
                "one on a local disk"
            ) from error
        self._sweep()

    def name(self, record: FileRecord) -> str:
        """The name of its file here.

        Raises:
            DamagedCacheError: what the cache calls its hash is none.
        """
        if not _HASH.fullmatch(record.xxh3):
            raise DamagedCacheError(f"{record.path}: {record.xxh3!r} is no hash of a file")
        return record.xxh3 + SUFFIX

    def find(self, record: FileRecord) -> Path | None:
        """Where its file is, marked as used now; ``None`` where there is none of its size."""
        path = self.folder / self.name(record)
        try:
            if path.stat().st_size != record.size:
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
        except OSError:
            return None
        return path

    def add(self, record: FileRecord, data: bytes) -> Path:
        """Make the file appear, whole.

        Raises:
            StorageError: the disk is full, or fails.
        """
        path = self.folder / self.name(record)
        temporary = self.folder / f"{path.stem}.{secrets.token_hex(8)}{_TEMPORARY}"
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(
                f"{path}: {error.strerror}; the disk cache needs {self.limit:,} bytes "
                "(disk_cache_bytes)"
            ) from error
        return path

    def discard(self, record: FileRecord) -> None:
        """Delete its file if it is there."""
        (self.folder / self.name(record)).unlink(missing_ok=True)

    def make_room(self, size: int, needed: Collection[str]) -> tuple[bool, list[str]]:
        """Delete what was used longest ago until ``size`` bytes more are within the limit.

        Args:
            size: bytes to come.
            needed: names of files to keep.

        Returns:
            Whether there is room now, and the names of what was deleted.
        """
        files = sorted(self._files())
        excess = sum(length for _, length, _ in files) + size - self.limit
        gone = []
        for _, length, name in files:
            if excess <= 0:
                break
            if name not in needed:
                (self.folder / name).unlink(missing_ok=True)
                gone.append(name)
                excess -= length
        return excess <= 0, gone

    @property
    def nbytes(self) -> int:
        """Bytes of all shards in it."""
        return sum(length for _, length, _ in self._files())

    def claim(self, record: FileRecord) -> bool:
        """Whether this process is to fetch it: nobody else has said so lately."""
        path = self._claim_of(record)
        try:
            with path.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            if not _older_than(path, STALE_CLAIM) and _claimer_lives(path):
                return False
            with contextlib.suppress(OSError):
                path.write_text(str(os.getpid()))
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        return True

    def unclaim(self, record: FileRecord) -> None:
        """Let others fetch it."""
        self._claim_of(record).unlink(missing_ok=True)

    def _claim_of(self, record: FileRecord) -> Path:
        return self.folder / f"{self.name(record)}{_CLAIM}"

    def _files(self) -> list[tuple[float, int, str]]:
        """Time of last use, bytes and name of each shard."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat()
                        found.append((status.st_mtime, status.st_size, entry.name))
        return found

    def _sweep(self) -> None:
        """Delete what processes that died have left half done."""
        for path in self.folder.glob(f"*{_TEMPORARY}"):
            if _older_than(path, _STALE_FILE):
                path.unlink(missing_ok=True)


def _older_than(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime > seconds
    except FileNotFoundError:
        return False


def _claimer_lives(path: Path) -> bool:
    """Whether the process that a claim names may be at work; of another machine it may seem not.

    Then a shard is fetched twice, and the same file takes the place of the same file.
    """
    try:
        number = int(path.read_text())
        os.kill(number, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    except (OSError, ValueError, OverflowError):
        return True
    return True
