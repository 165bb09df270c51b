"""Two Ray nodes with a network between them that can be cut: one here, one in a namespace.

The second node has a network namespace of its own, joined to ours by a pair of virtual cables
with addresses that are set aside for such trials (198.18.0.0/15). Cut off, it runs on, and nobody
hears of it: packets vanish, no connection is closed. Needs Linux, ``ip`` and the right to use it.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.local import free_port, kill_tree, wait_until_started

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    # A node that is out of reach is given up after about ten seconds.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}


@dataclass
class Network:
    """Our end of the cable, and the namespace at the other.

    Attributes:
        name: of the namespace; both ends of the cable have it in theirs.
        host, other: addresses here and there.
    """

    name: str = field(default_factory=lambda: f"kdc{secrets.token_hex(3)}")

    def __post_init__(self) -> None:
        prefix = f"198.18.{random.SystemRandom().randrange(256)}"
        self.host, self.other = f"{prefix}.1", f"{prefix}.2"

    def make(self) -> None:
        """Raises CalledProcessError or OSError where that is not allowed."""
        here, there = f"{self.name}a", f"{self.name}b"
        _ip("netns", "add", self.name)
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        _ip("addr", "add", f"{self.host}/30", "dev", here)
        _ip("link", "set", here, "up")
        self._there("addr", "add", f"{self.other}/30", "dev", there)
        self._there("link", "set", "lo", "up")
        self.heal()

    def cut(self) -> None:
        """Nothing passes any more, in either direction."""
        self._there("link", "set", f"{self.name}b", "down")

    def heal(self) -> None:
        """Everything passes again."""
        self._there("link", "set", f"{self.name}b", "up")

    def works(self) -> bool:
        """Whether an actor in the namespace is at a unit, by the title that Ray gives it."""
        inside = _ip("netns", "pids", self.name).split()
        return any(_title(number).startswith(b"ray::ExtractActor.extract") for number in inside)

    def remove(self) -> None:
        """The cable and the namespace."""
        for command in (("link", "del", f"{self.name}a"), ("netns", "del", self.name)):
            with contextlib.suppress(subprocess.CalledProcessError, OSError):
                _ip(*command)

    def _there(self, *command: str) -> None:
        _ip("-n", self.name, *command)


@dataclass
class Separated:
    """A head with a CPU here, and a node with one in the namespace.

    Attributes:
        network: between them.
        folder: of sessions and logs.
    """

    network: Network
    folder: Path

    def __post_init__(self) -> None:
        self.address = f"{self.network.host}:{free_port()}"
        self.environment = {
            **os.environ,
            **SETTINGS,
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ADDRESS": self.address,
        }
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Both nodes; RuntimeError where Ray cannot be started."""
        port = self.address.rpartition(":")[2]
        head = ("--head", f"--port={port}", f"--temp-dir={self.folder}")
        self._start(self.network.host, [*head, "--include-dashboard=false"])
        inside = ["ip", "netns", "exec", self.network.name]
        self._start(self.network.other, [f"--address={self.address}"], inside)

    def close(self) -> None:
        """kill −9 of both, and of all below them."""
        while self._nodes:
            kill_tree(self._nodes.pop())

    def _start(self, host: str, arguments: list[str], inside: list[str] | None = None) -> None:
        common = [f"--node-ip-address={host}", "--num-cpus=1", "--num-gpus=0",
                  f"--object-store-memory={100 * 2**20}", "--disable-usage-stats",
                  f"--dashboard-agent-listen-port={free_port()}", "--block"]  # fmt: skip
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start"]
        ours = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        log = self.folder / f"{host}.log"
        with log.open("wb") as output:
            node = subprocess.Popen(
                [*(inside or []), *ray, *arguments, *common],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ours,
            )
        self._nodes.append(node)
        wait_until_started(node, log)


@contextlib.contextmanager
def separate_network() -> Iterator[Network]:
    """A network, for as long as the block runs.

    Raises:
        PermissionError: this process may not make one.
    """
    network = Network()
    try:
        network.make()
    except (subprocess.CalledProcessError, OSError) as error:
        network.remove()
        told = getattr(error, "stderr", None) or str(error)
        raise PermissionError(f"cannot make a network namespace: {told.strip()}") from error
    try:
        yield network
    finally:
        network.remove()


@contextlib.contextmanager
def separated_nodes(network: Network) -> Iterator[Separated]:
    """The two nodes, for as long as the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="kdc-"))
    nodes = Separated(network, folder)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.close()
        shutil.rmtree(folder, ignore_errors=True)


def _ip(*command: str) -> str:
    done = subprocess.run(["ip", *command], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def _title(number: str) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""
