"""An error that trying again cannot mend, told to whoever would try again.

Ray restarts workers after any error. One of ours comes back the same, and each restart takes many
seconds. So the worker that met it writes it down in the run's directory, and workers that are
started later have nothing to do; the driver finds it there. A storage that failed may work again,
and is no such error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kdcache.errors import KdcacheError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def failure_file(out: Path, launch: str) -> Path:
    """Where the workers of one launch of a run write it."""
    return out / f".failed-{launch}"


def write_failure(path: Path, error: KdcacheError) -> bool:
    """Write an error down unless it may pass; whether it was written."""
    if isinstance(error, StorageError):
        return False
    text = json.dumps({"code": error.code, "message": error.message})
    path.write_text(text, encoding="utf-8")
    return True


def read_failure(path: Path) -> KdcacheError | None:
    """The error that a worker wrote down, of its own class; ``None`` if there was none."""
    if not path.is_file():
        return None
    from kdcache.train import objective  # noqa: F401 an error of its own is defined there

    found = json.loads(path.read_text(encoding="utf-8"))
    classes = {kind.code: kind for kind in _kinds(KdcacheError)}
    return classes.get(found["code"], KdcacheError)(found["message"])


def _kinds(kind: type[KdcacheError]) -> Iterator[type[KdcacheError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)
