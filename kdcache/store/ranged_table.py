"""A table of the index in an object store, of which columns are fetched when they are asked for.

An Arrow file says at its end where each column lies, and its columns are uncompressed and whole:
whoever streams two targets of a cache with six fetches the columns of two. Columns that came are
kept. Who wants a row of it fetches that row (``kdcache.store.ranged_rows``). Safe from several
threads.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from kdcache.errors import DamagedCacheError
from kdcache.store.ranged_rows import RangedRows

if TYPE_CHECKING:
    from kdcache.store.files import FileRecord
    from kdcache.store.storage import Storage

_PIECE = 32 << 20
"""Bytes of a request: one that breaks off costs no more."""

_TOGETHER = 4
"""Requests side by side."""

_KEPT = 1 << 20
"""A smaller read is kept: where columns lie is read again for each of them."""


class RangedTable:
    """Columns of an Arrow file of one record batch.

    Args:
        storage, record: where it lies.

    Raises:
        DamagedCacheError: it is missing, or no such file.
    """

    def __init__(self, storage: Storage, record: FileRecord) -> None:
        self._storage, self._record = storage, record
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._lock = RLock()
        self._kept: dict[tuple[int, int], np.ndarray] = {}
        self._schema: pa.Schema = self._open(None).schema
        self._names: list[str] = self._schema.names
        self._rows: RangedRows | None = None

    @property
    def column_names(self) -> list[str]:
        """Of all columns."""
        return list(self._names)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        with self._lock:
            if name not in self._columns:
                self._columns[name] = self._fetch(name)
            return self._columns[name]

    @property
    def rows(self) -> RangedRows:
        """To read some rows, and not whole columns."""
        with self._lock:
            if self._rows is None:
                self._rows = RangedRows(self._storage, self._record, self._schema)
            return self._rows

    def whole(self) -> pa.Table:
        """All columns."""
        return pa.table({name: self[name] for name in self._names})

    def _fetch(self, name: str) -> pa.ChunkedArray:
        try:
            table = self._open(self._names.index(name)).read_all()
            table.validate()
        except ValueError as error:
            if isinstance(error, pa.ArrowException):
                raise self._damaged(error) from error
            raise KeyError(name) from None
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        return table[name]

    def _open(self, field: int | None) -> pa.ipc.RecordBatchFileReader:
        fields = None if field is None else [field]
        file = pa.PythonFile(_RangedFile(self._storage, self._record, self._kept), mode="r")
        try:
            return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DamagedCacheError:
        return DamagedCacheError(f"{self._record.path}: {error}")


class _RangedFile:
    """As much of a file's face as Arrow looks at."""

    closed = False

    def __init__(
        self, storage: Storage, record: FileRecord, kept: dict[tuple[int, int], np.ndarray]
    ) -> None:
        self._storage, self._record, self._kept, self._at = storage, record, kept, 0

    def read(self, size: int = -1) -> memoryview:
        """The next bytes."""
        left = self._record.size - self._at
        size = left if size < 0 else min(size, left)
        span = (self._at, size)
        self._at += size
        data = self._kept[span] if span in self._kept else self._fetch(*span)
        if size < _KEPT:
            self._kept[span] = data
        return data.data

    def _fetch(self, begin: int, size: int) -> np.ndarray:
        """Requested in pieces, some of them side by side."""
        whole = np.empty(size, np.uint8)
        for at in range(0, size, _PIECE * _TOGETHER):
            end = min(at + _PIECE * _TOGETHER, size)
            starts = range(at, end, _PIECE)
            spans = [(begin + start, min(_PIECE, end - start)) for start in starts]
            self._fill(whole[at:end], spans)
        return whole

    def _fill(self, target: np.ndarray, spans: list[tuple[int, int]]) -> None:
        try:
            parts = self._storage.read_ranges(self._record.path, spans)
        except FileNotFoundError:
            raise DamagedCacheError(f"{self._record.path}: the file is missing") from None
        if sum(map(len, parts)) != len(target):
            raise DamagedCacheError(f"{self._record.path}: it is shorter than it was")
        np.concatenate(parts, out=target)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Where reading goes on."""
        self._at = offset + (0, self._at, self._record.size)[whence]
        return self._at

    def tell(self) -> int:
        """Where it goes on now."""
        return self._at

    def size(self) -> int:
        """Bytes of the file."""
        return self._record.size

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False

    def close(self) -> None:
        """There is nothing to close."""

    def flush(self) -> None:
        """There is nothing to write."""
