"""A reader that trusts nobody: while others write and die, all that is visible must be right."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kdcache.errors import KdcacheError, NotACacheError
from kdcache.store import open_cache, verify

if TYPE_CHECKING:
    from pathlib import Path

_PAUSE = 0.05


class Reader:
    """Reads a cache over and over for as long as the block runs.

    Args:
        path: of the cache, which need not be there yet.
        expected: checksum of each utterance's content by id, as an undisturbed run made it.

    Attributes:
        rounds: how often everything that was visible has been read.
        wrong: what was not as it should be.
    """

    def __init__(self, path: Path, expected: dict[str, str]) -> None:
        self._path, self._expected = path, expected
        self._seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read_on, daemon=True)
        self.rounds = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _read_on(self) -> None:
        while not self._over.wait(_PAUSE):
            try:
                self._read()
            except NotACacheError:
                continue
            except (KdcacheError, OSError) as error:
                self.wrong.append(f"{type(error).__name__}: {error}")

    def _read(self) -> None:
        cache = open_cache(self._path)
        rows = cache.catalogue.select(["id", "checksum"]).to_pylist()
        found = {row["id"]: row["checksum"] for row in rows}
        self.wrong += [f"{name} has vanished" for name in self._seen - set(found)]
        for name, checksum in found.items():
            if checksum != self._expected.get(name):
                self.wrong.append(f"{name} holds something else")
        for name in set(found) - self._seen:
            cache[name]  # every byte of it is checked, and decoded
        self.wrong += [f"{item.file}: {item.what}" for item in verify(self._path)]
        self._seen = set(found)
        self.rounds += 1
