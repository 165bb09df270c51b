"""An S3 server on this machine that answers late, and now and then not at all.

    python tests/soak/faulty_s3.py --latency 0.05 --errors 0.05

prints a line of JSON, the URLs of a healthy server and of a faulty way to it, and serves until its
standard input ends. What passes the faulty way is delayed, by half to twice the latency, and a
share of the requests fails: one of three with 503, one with 500, and one is cut off in the middle
of its answer. Which ones, a seed decides. Of writes that fail with 500 or are cut off, only the
answer is lost: they were carried out.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from s3_server import s3_server

FAULTS = (503, 500, "cut")
REFUSALS = (503, 501)


class FaultyWay(ThreadingHTTPServer):
    """Passes requests on to ``upstream``; most of them."""

    daemon_threads = True

    def __init__(self, upstream: str, latency: float, errors: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self._latency, self._errors = upstream, latency, errors
        self._random, self._lock = random.Random(seed), threading.Lock()
        self.requests = self.failed = 0

    def draw(self, request: Handler) -> tuple[float, int | str | None]:
        """How late the answer to ``request`` is, and what becomes of it: 503 and 501 refuse it,
        500 and ``cut`` lose the answer, and so does ``silent``, which never gives one."""
        with self._lock:
            self.requests += 1
            late = self._latency * self._random.uniform(0.5, 2.0)
            fault = self._random.choice(FAULTS) if self._random.random() < self._errors else None
            self.failed += fault is not None
            return late, fault

    def passed_on(self, headers: dict[str, str]) -> dict[str, str]:
        """What the server is told of a request's headers."""
        return headers

    def handle_error(self, *_: Any) -> None:
        """Clients that leave are no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: FaultyWay

    def do_GET(self) -> None:
        if self.path == "/-/counts":
            return self._say(200, json.dumps([self.server.requests, self.server.failed]).encode())
        late, fault = self.server.draw(self)
        time.sleep(late)
        if isinstance(fault, int):
            return self._say(fault, b"<Error><Code>SlowDown</Code></Error>")
        status, headers, body = self._ask()
        if fault == "cut":
            body_sent = body[: len(body) // 2]
            self.close_connection = True
        else:
            body_sent = body
        return self._say(status, body_sent, headers, length=len(body))

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        late, fault = self.server.draw(self)
        time.sleep(late)
        if fault in REFUSALS:
            return self._say(int(fault), b"<Error><Code>SlowDown</Code></Error>")
        status, headers, answer = self._ask(body)
        if fault == 500:
            return self._say(500, b"<Error><Code>InternalError</Code></Error>")
        if fault == "silent":
            self._wait_until_left()
        if fault in ("cut", "silent"):
            self.close_connection = True
            return None
        return self._say(status, answer, headers)

    do_DELETE = do_POST = do_PUT

    def _ask(self, sent: bytes | None = None) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(self.server.upstream, timeout=60)
        try:
            headers = self.server.passed_on(dict(self.headers))
            connection.request(self.command, self.path, sent, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _wait_until_left(self) -> None:
        """Until the client's patience is at its end, or ours."""
        self.connection.settimeout(60)
        with suppress(OSError):
            self.rfile.read(1)

    def _say(
        self,
        status: int,
        body: bytes,
        headers: list[tuple[str, str]] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers or []:
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        if self.command == "HEAD" and headers:
            length = int({n.lower(): v for n, v in headers}.get("content-length", 0))
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--errors", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with s3_server() as variables:
        healthy = variables["AWS_ENDPOINT_URL"]
        way = FaultyWay(healthy.removeprefix("http://"), args.latency, args.errors, args.seed)
        threading.Thread(target=way.serve_forever, daemon=True).start()
        faulty = f"http://127.0.0.1:{way.server_address[1]}"
        print(json.dumps({"environment": variables, "faulty": faulty}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
