"""A node is cut off from the network in the middle of a run, with the cache in an object store."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from kdcache.store import find_garbage, open_cache, verify
from kdcache.store.commits import committed_units
from kdcache.store.places import open_storage
from tests.faults.separated import separate_network, separated_nodes
from tests.integration.test_local_cluster import digest_of_an_undisturbed_run, save_config
from tests.s3_server import BUCKET, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.separated import Network

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PATIENCE = 300.0
UNITS = 30


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """To a second node, and an S3 server that both nodes reach."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    try:
        made = separate_network()
        entered = made.__enter__()
    except PermissionError as error:
        pytest.skip(f"{error}; run as root on Linux with iproute2")
    try:
        with s3_server(entered.host) as variables:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            yield entered
    finally:
        made.__exit__(None, None, None)


@pytest.mark.parametrize("heals", [False, True])
def test_a_run_survives_a_node_that_is_cut_off(
    tmp_path: Path, network: Network, heals: bool
) -> None:
    """For good, or until it comes back with what it had begun: same content, and exit code 0."""
    # Servers of one process have their buckets in common: each run has a cache of its own.
    where = f"s3://{BUCKET}/{'healed' if heals else 'lost'}"
    folder = save_config(
        tmp_path, 2 * UNITS, 0.4, actors=2, cache={"path": where}, storage_patience=30.0
    )
    config = str(folder / "extract.yaml")
    command = [sys.executable, "-m", "kdcache", "extract", config, "--json"]
    with separated_nodes(network) as nodes:
        run = subprocess.Popen(
            [*command, "--set", f"ray.address={nodes.address}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=nodes.environment,
        )
        disturbed: list[int] = []
        trouble = threading.Thread(target=disturb, args=(network, run, where, heals, disturbed))
        trouble.start()
        out, err = run.communicate(timeout=PATIENCE)
        trouble.join()
    assert run.returncode == 0, err
    assert disturbed, "the run was over before the node was cut off"
    assert disturbed[0] < UNITS
    assert json.loads(out)["content_digest"] == digest_of_an_undisturbed_run(folder)
    cache = open_cache(where)
    assert len(cache.units) == UNITS
    assert verify(where) == []
    assert [entry for entry in find_garbage(where) if not entry.key.startswith("tmp/")] == []


def disturb(
    network: Network, run: subprocess.Popen[str], where: str, heals: bool, told: list[int]
) -> None:
    """Cut the network when both nodes are at work; heal it after six commits by the other node,
    which take about as long as Ray takes to give a node up. Tells how much was done at the cut."""
    storage = open_storage(where)

    def commits() -> int:
        return len(committed_units(storage))

    if not _wait_for(lambda: commits() >= 4 and network.works(), run):
        return
    network.cut()
    told.append(commits())
    if heals and _wait_for(lambda: commits() >= told[0] + 6, run):
        network.heal()


def _wait_for(met: Callable[[], bool], run: subprocess.Popen[str]) -> bool:
    """False where the run ends before."""
    deadline = time.monotonic() + PATIENCE
    while run.poll() is None and time.monotonic() < deadline:
        if met():
            return True
        time.sleep(0.1)
    return False
