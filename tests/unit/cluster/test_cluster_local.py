"""The runner of several nodes, as far as it needs no Ray: the rest is in tests/integration."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from cluster import local
from cluster.local import LocalCluster, descendants, free_port, kill_tree, main

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 30.0
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(process: int) -> bool:
    """Whether it runs: one that is dead and waited for by nobody yet does not."""
    try:
        with open(f"/proc/{process}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_all_below_a_process_goes_with_it() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert descendants(parent.pid) == {child}
    assert os.getsid(child) != os.getsid(0)
    kill_tree(parent)
    assert parent.returncode == -9
    deadline = time.monotonic() + PATIENCE
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_free_port_is_free() -> None:
    with socket.socket() as taken:
        taken.bind((local.HOST, 0))
        taken.listen()
        port = free_port()
        assert port != taken.getsockname()[1]
    with socket.socket() as probe:
        probe.bind((local.HOST, port))


def test_a_program_is_told_where_the_cluster_is(tmp_path: Path) -> None:
    one, other = LocalCluster(tmp_path), LocalCluster(tmp_path)
    assert one.environment["RAY_ADDRESS"] == one.address != other.address
    assert one.environment["RAY_AUTH_TOKEN"] != other.environment["RAY_AUTH_TOKEN"]
    assert "RAY_ADDRESS" not in one._of_a_node()


def test_a_node_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.sys, "executable", "/bin/echo")
    cluster = LocalCluster(tmp_path)
    with pytest.raises(RuntimeError, match=r"It said: -m ray\.scripts\.scripts start --head"):
        cluster.start_head(1)
    cluster.close()
    assert cluster.nodes == []


def test_without_nodes_none_can_be_lost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--nodes", "0", "--lose-after", "1", "--", "true"])
    assert caught.value.code == 2
    assert "give --nodes" in capsys.readouterr().err
