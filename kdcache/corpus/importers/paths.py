"""Where a path of a corpus points: what the importers share."""

from __future__ import annotations

import os
from pathlib import Path


def resolve(path: str, folder: Path) -> str:
    """An absolute path or the URL as it is.

    Lhotse and Kaldi write paths relative to wherever they were run. A relative path is
    looked for in ``folder`` first, then in the current directory; where it is in neither it
    is taken to belong into ``folder``.
    """
    if "://" in path or os.path.isabs(path):  # noqa: PTH117 - a URL is no Path
        return path
    here = Path(os.path.abspath(folder)) / path  # noqa: PTH100 - resolve() would follow links
    if not here.exists() and Path(path).exists():
        here = Path.cwd() / path
    return os.path.normpath(here)
