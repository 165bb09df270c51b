"""Two Ray nodes on this machine: a head that stays, and one whose raylet may be killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

STORE_BYTES = 80_000_000
_STARTS = 5

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    # A node that is gone is noticed in seconds, and one that is only slow is left alone.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "10",
}


class TwoNodes:
    """A cluster with a CPU on each of two nodes, for as long as the block runs."""

    def __init__(self) -> None:
        os.environ.update(SETTINGS)
        self._cluster: Any = None
        self._second: Any = None

    def __enter__(self) -> TwoNodes:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._start(include_dashboard=False)
        self.restore()
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """For ``ray.address``."""
        return str(self._cluster.address)

    def restore(self) -> None:
        """The second node, started anew where it was lost."""
        if self._second is None:
            self._second = self._start()

    def actors(self) -> list[int]:
        """Processes of teacher actors, by the title that Ray gives them: ours alone, since
        others may use Ray on this machine."""
        raylets = [self._cluster.head_node, *([self._second] if self._second else [])]
        ours = {node.all_processes["raylet"][0].process.pid for node in raylets}
        processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        found = [process for process in processes if _parent(process) in ours]
        return sorted(p for p in found if _title(p).startswith(b"ray::ExtractActor"))

    def kill_actor(self, choice: float) -> bool:
        """kill −9 of one of them, at that share of their list; False where there is none."""
        found = self.actors()
        if not found:
            return False
        try:
            os.kill(found[int(choice * len(found))], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def kill_second(self) -> None:
        """kill −9 of its raylet, and of it alone."""
        (raylet,) = self._second.all_processes["raylet"]
        os.kill(raylet.process.pid, signal.SIGKILL)

    def bury_second(self) -> None:
        """Clear away what the killed raylet left running."""
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    def _start(self, **settings: Any) -> Any:
        """A node; on a busy machine it may need more than one attempt."""
        for attempt in range(_STARTS):
            try:
                return self._cluster.add_node(
                    num_cpus=1, object_store_memory=STORE_BYTES, **settings
                )
            except Exception:  # of many kinds, each of which means "not started"
                if attempt + 1 == _STARTS:
                    raise
                time.sleep(2.0)
        raise AssertionError


def _parent(process: int) -> int:
    """Its parent's id, 0 where it is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _title(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
