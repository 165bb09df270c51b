"""How many requests a cache in an object store costs: an S3 server on this machine counts."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdcache.store import compact, create_or_open, open_cache
from kdcache.stream.source import CacheSource
from kdcache.testing.samples import TOKENIZER_FILES

sys.path.insert(0, str(Path(__file__).parents[1]))
from s3_server import BUCKET, s3_server

if TYPE_CHECKING:
    from kdcache.store import CacheSpec, PackedUtterance

LOADS = 40
_REQUEST = re.compile(r"(GET|HEAD|PUT|POST|DELETE) (\S+)")


@dataclass(frozen=True)
class Requests:
    """Requests by method.

    Attributes:
        commit: of committing one unit.
        opening: of opening a cache of one unit, compacted.
        load: of streaming one utterance, on average.
    """

    commit: dict[str, int]
    opening: dict[str, int]
    load: dict[str, float]


class _Counter(logging.Handler):
    """Reads the server's log: one line a request."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seen: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count ``"GET /bucket/key HTTP/1.1" 200 -``."""
        request = _REQUEST.search(record.getMessage())
        if request:
            self.seen["LIST" if "list-type=" in request[2] else request[1]] += 1

    def take(self) -> dict[str, int]:
        """What was counted since this was asked last."""
        seen, self.seen = dict(sorted(self.seen.items())), Counter()
        return seen


def count_requests(spec: CacheSpec, layout: str, packed: list[PackedUtterance]) -> Requests:
    """Commit, open and stream a unit through the server."""
    log, counter = logging.getLogger("werkzeug"), _Counter()
    # Before the server starts, or it would print its log as well.
    log.addHandler(counter)
    log.propagate = False
    try:
        with s3_server() as variables:
            log.setLevel(logging.INFO)
            os.environ.update(variables)
            return _counted(f"s3://{BUCKET}/{layout}", spec, layout, packed, counter)
    finally:
        log.removeHandler(counter)


def _counted(
    url: str, spec: CacheSpec, layout: str, packed: list[PackedUtterance], counter: _Counter
) -> Requests:
    writer = create_or_open(url, spec, layout, TOKENIZER_FILES)
    counter.take()
    writer.commit("0" * 64, packed, [], "scale")
    commit = counter.take()
    compact(url)
    counter.take()
    cache = open_cache(url)
    opening = counter.take()
    source = CacheSource(cache, [target.name for target in spec.targets])
    for row in np.random.default_rng(0).choice(len(packed), LOADS, replace=False):
        source.load(int(row))
    load = {method: number / LOADS for method, number in counter.take().items()}
    return Requests(commit, opening, load)
