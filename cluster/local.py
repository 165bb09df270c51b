"""Several Ray nodes on this machine for as long as a command runs: a cluster in small.

    python cluster/local.py --nodes 2 -- kdcache extract CONFIG --set ray.address=auto
    python cluster/local.py --nodes 2 --lose-after 20 -- kdcache extract …  # a spot machine goes
    python cluster/local.py --jobs -- ray job submit --working-dir cluster -- kdcache …

Every node is a ``ray start`` of its own with its own processes, which can be killed like a
machine can be lost. The head is one more, and has no CPU to give unless it is alone. They listen
on free ports of this machine; a token keeps out whoever else can reach these, and other Ray
clusters on the machine are not touched: nothing here calls ``ray stop``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"
STARTED = "Ray runtime started"
"""What ``ray start`` says when its node runs."""

PATIENCE = 120.0
"""Seconds for a node to start; most are up in five."""


@dataclass
class LocalCluster:
    """A Ray cluster on this machine; see :func:`local_cluster`.

    Attributes:
        folder: of sessions and logs; a short path, since Ray's sockets lie in it.
        jobs: whether the head takes jobs (``pip install 'kdcache[cluster]'``).
        nodes: ``ray start`` of every node that runs, the head's first.
    """

    folder: Path
    jobs: bool = False
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._token = secrets.token_hex(32)
        self.address = f"{HOST}:{free_port()}"
        self.jobs_url = f"http://{HOST}:{free_port()}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use this cluster."""
        return {
            **os.environ,
            # `kdcache` and `ray` of this environment, whichever is active in the shell.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.jobs_url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def start_head(self, cpus: int) -> None:
        """The head, which plans, and has no CPU to give where others have.

        Raises:
            RuntimeError: Ray cannot be started; the text is what it said.
        """
        port, jobs_port = (url.rpartition(":")[2] for url in (self.address, self.jobs_url))
        self._start(
            "--head",
            f"--port={port}",
            f"--temp-dir={self.folder}",
            f"--include-dashboard={str(self.jobs).lower()}",
            f"--dashboard-host={HOST}",
            f"--dashboard-port={jobs_port}",
            f"--num-cpus={cpus}",
        )

    def add_node(self, cpus: int) -> None:
        """One more node.

        Raises:
            RuntimeError: it cannot be started; the text is what Ray said.
        """
        self._start(f"--address={self.address}", f"--num-cpus={cpus}")

    def lose_node(self) -> None:
        """Kill −9 of the last node that was added, with all that runs on it."""
        kill_tree(self.nodes.pop())

    def close(self) -> None:
        """End every node, the head last."""
        while self.nodes:
            self.lose_node()

    def _start(self, *arguments: str) -> None:
        log = self.folder / f"node-{time.monotonic_ns()}.log"
        common = (
            f"--node-ip-address={HOST}",
            "--num-gpus=0",
            f"--object-store-memory={100 * 2**20}",
            f"--dashboard-agent-listen-port={free_port()}",
            "--disable-usage-stats",
            "--block",
        )
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *common]
        with log.open("wb") as output:
            node = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=self._of_a_node()
            )
        self.nodes.append(node)
        wait_until_started(node, log)

    def _of_a_node(self) -> dict[str, str]:
        """Without the address: a head would take it for a cluster to join."""
        ours = self.environment
        return {name: value for name, value in ours.items() if name != "RAY_ADDRESS"}


@contextlib.contextmanager
def local_cluster(nodes: int = 2, cpus: int = 1, *, jobs: bool = False) -> Iterator[LocalCluster]:
    """A cluster of a head and ``nodes`` nodes of ``cpus`` CPUs, for as long as the block runs.

    Without nodes the head has the CPUs.

    Raises:
        RuntimeError: Ray cannot be started; the text is what it said.
    """
    folder = Path(tempfile.mkdtemp(prefix="kdc-"))
    cluster = LocalCluster(folder, jobs)
    try:
        cluster.start_head(0 if nodes else cpus)
        for _ in range(nodes):
            cluster.add_node(cpus)
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill −9 of a process and everything below it, whatever group or session that is in."""
    below = descendants(process.pid)
    for number in (process.pid, *below):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def descendants(process: int) -> set[int]:
    """Every process below ``process``."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


def wait_until_started(node: subprocess.Popen[bytes], log: Path) -> None:
    """Until ``ray start`` says in its ``log`` that the node runs.

    Raises:
        RuntimeError: it ended, or did not say so in time; the text is what it said.
    """
    deadline = time.monotonic() + PATIENCE
    while STARTED not in (said := log.read_text(errors="replace")):
        if node.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Ray did not start on this machine. It said: {said.strip()}")
        time.sleep(0.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command on a cluster; its exit code is the program's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--nodes", type=int, default=2, help="besides the head; 0: it works (%(default)s)"
    )
    parser.add_argument("--cpus", type=int, default=1, help="of a node (%(default)s)")
    parser.add_argument("--jobs", action="store_true", help="take `ray job submit`")
    parser.add_argument("--lose-after", type=float, metavar="SECONDS", help="kill −9 a node then")
    parser.add_argument("command", nargs="+", help="after --; it finds the cluster as `auto`")
    given = parser.parse_args(arguments)
    if given.lose_after is not None and given.nodes < 1:
        parser.error("--lose-after takes a node away, and there is only the head: give --nodes")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    running = local_cluster(given.nodes, given.cpus, jobs=given.jobs)
    with running as cluster, _losing_a_node(cluster, given.lose_after):
        return subprocess.run(given.command, env=cluster.environment, check=False).returncode


@contextlib.contextmanager
def _losing_a_node(cluster: LocalCluster, after: float | None) -> Iterator[None]:
    """While the block runs, a node is lost after so many seconds, if any."""
    if after is None:
        yield
        return
    loss = threading.Timer(after, cluster.lose_node)
    loss.start()
    try:
        yield
    finally:
        loss.cancel()
        loss.join()


if __name__ == "__main__":
    sys.exit(main())
