"""Ways to an S3 server that do what they are told to certain requests.

On them a test says which answer is lost, where ``FaultyWay`` draws lots.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from tests.soak.faulty_s3 import FaultyWay

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.soak.faulty_s3 import Handler

WayT = TypeVar("WayT", bound=FaultyWay)

CONDITION = "if-none-match"


class ScriptedWay(FaultyWay):
    """The first writes of every object in some folders of the cache, or of its parts, suffer.

    Args:
        upstream: host and port of the server.
        folders: of the cache: ``data``, ``catalogue``, ``commits``.
        fault: see :meth:`FaultyWay.draw`.
        times: how many writes of each object.
    """

    def __init__(
        self, upstream: str, folders: Collection[str], fault: int | str, times: int = 1
    ) -> None:
        super().__init__(upstream, 0.0, 0.0, 0)
        self._folders, self._fault, self._times = folders, fault, times
        self.suffered: dict[str, int] = {}

    def draw(self, request: Handler) -> tuple[float, int | str | None]:
        """The fault, for as long as the object has suffered too little."""
        super().draw(request)
        if request.command not in ("PUT", "POST") or not any(
            f"/{f}/" in request.path for f in self._folders
        ):
            return 0.0, None
        with self._lock:
            before = self.suffered.get(request.path, 0)
            if before >= self._times:
                return 0.0, None
            self.suffered[request.path] = before + 1
        return 0.0, self._fault


class CarelessWay(FaultyWay):
    """To a server that accepts every second create, as ``rclone serve s3`` does."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, 0.0, 0.0, 0)

    def passed_on(self, headers: dict[str, str]) -> dict[str, str]:
        """Without the condition."""
        return {name: value for name, value in headers.items() if name.lower() != CONDITION}


class IgnorantWay(FaultyWay):
    """To a server that answers 501 to conditions, as Swift's S3 interface does."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, 0.0, 0.0, 0)

    def draw(self, request: Handler) -> tuple[float, int | str | None]:
        """501 where there is a condition."""
        super().draw(request)
        return 0.0, 501 if request.headers.get(CONDITION) else None


@contextmanager
def open_way(way: WayT) -> Iterator[WayT]:
    """``way``, which serves for as long as the block runs."""
    threading.Thread(target=way.serve_forever, daemon=True).start()
    try:
        yield way
    finally:
        way.shutdown()
        way.server_close()


def url_of(way: FaultyWay) -> str:
    """For ``AWS_ENDPOINT_URL``."""
    return f"http://127.0.0.1:{way.server_address[1]}"
