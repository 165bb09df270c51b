"""A copy of a cache's small files in a directory, for libraries that open paths."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kdcache.store.files import check_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kdcache.store.files import FileRecord
    from kdcache.store.storage import Storage


class FetchedFiles:
    """Files fetched into a temporary directory, which is removed with this object.

    Args:
        storage: where they are.
        records: which; each is checked.

    Raises:
        DamagedCacheError: one is missing or not what was written.
    """

    def __init__(self, storage: Storage, records: Iterable[FileRecord]) -> None:
        self._directory = TemporaryDirectory(prefix="kdcache-")
        for record in records:
            (self.folder / Path(record.path).name).write_bytes(check_file(storage, record))

    @property
    def folder(self) -> Path:
        """The directory."""
        return Path(self._directory.name)
