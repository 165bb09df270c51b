"""A production S3 server on this machine: Ceph's radosgw over a monitor and one object daemon.

On Debian: ``apt-get install --no-install-recommends radosgw ceph-mon ceph-osd``. Every daemon is a
child of this process, listens on loopback and keeps its files in one folder, the objects
in memory; a Ceph that may run on the machine beside it is not touched.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from cluster.local import free_port
from tests.s3_server import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")
PACKAGES = "radosgw ceph-mon ceph-osd"
PATIENCE = 240.0
KEY = "kdcache-tests"
STORE_BYTES = 2**30
STARTS = 5

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v1:{monitor}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
ms bind msgr2 = false
ms cluster mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon osd min down reporters = 1
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
mon data = {folder}/mon
mon data avail crit = 1
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {store_bytes}
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 16
debug mon = 0
debug osd = 0
debug rgw = 0
debug ms = 0
debug paxos = 0
"""


@dataclass
class Ceph:
    """The daemons of one small cluster.

    Attributes:
        folder: of all their files.
        monitor: host and port of the monitor.
        port: of the S3 server.
        daemons: that run.
    """

    folder: Path
    monitor: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    port: int = field(default_factory=free_port)
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of the S3 server."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Monitor, object daemon, S3 server and a user of it, one after the other."""
        for folder in ("mon", "osd", "rgw"):
            (self.folder / folder).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        text = CONFIGURATION.format(
            fsid=fsid,
            monitor=self.monitor,
            folder=self.folder,
            port=self.port,
            store_bytes=STORE_BYTES,
        )
        (self.folder / "ceph.conf").write_text(text)
        self._start_monitor(fsid)
        self._start_store(str(uuid.uuid4()))
        self._start_server()

    def stop(self) -> None:
        """kill −9: nothing of it is kept."""
        for daemon in reversed(self.daemons):
            daemon.kill()
            daemon.wait()

    def tell(self, *command: str) -> str:
        """What a program of Ceph's prints; RuntimeError where it fails."""
        name, *arguments = command
        done = subprocess.run(
            [name, "-c", str(self.folder / "ceph.conf"), *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def _start_monitor(self, fsid: str) -> None:
        table = str(self.folder / "monmap")
        address = f"[v1:{self.monitor}]"
        self.tell("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, table)
        self.tell("ceph-mon", "--mkfs", "-i", "a", "--monmap", table)
        self._daemon("ceph-mon", "-i", "a")
        self._until(lambda: "a" in self.tell("ceph", "--connect-timeout", "5", "quorum_status"))

    def _start_store(self, name: str) -> None:
        self.tell("ceph", "osd", "new", name, "0")
        self.tell("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name)
        # Now and then it asks the monitor before it knows the cluster's id, and ends.
        for attempt in range(STARTS):
            self._daemon("ceph-osd", "-i", "0")
            try:
                self._until(lambda: "1 up" in self.tell("ceph", "osd", "stat"))
                break
            except ChildProcessError:
                if attempt + 1 == STARTS:
                    raise
                self.daemons.pop()

    def _start_server(self) -> None:
        self.tell("radosgw-admin", "user", "create", "--uid=tests", "--display-name=tests",
                  f"--access-key={KEY}", f"--secret-key={KEY}")  # fmt: skip
        self._daemon("radosgw", "-n", "client.rgw")
        self._until(self._answers)

    def _daemon(self, *command: str) -> None:
        """In the foreground of a child, so that it can be killed and leaves nobody behind."""
        name, *arguments = command
        with (self.folder / f"{name}.out").open("wb") as out:
            self.daemons.append(
                subprocess.Popen(
                    [name, "-c", str(self.folder / "ceph.conf"), *arguments, "-f"],
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )

    def _answers(self) -> bool:
        try:
            urlopen(self.url, timeout=5).close()
        except HTTPError:
            return True
        except OSError:
            return False
        return True

    def _until(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not met():
            if any(daemon.poll() is not None for daemon in self.daemons):
                raise ChildProcessError(f"a daemon of Ceph ended: see {self.folder}/*.out")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Ceph did not start in {PATIENCE:.0f} s: see {self.folder}")
            time.sleep(0.2)


@contextmanager
def radosgw(folder: Path) -> Iterator[dict[str, str]]:
    """A running server with one bucket: the environment that leads clients to it.

    Where Ceph is not installed the test is skipped.

    Args:
        folder: new or empty, for the daemons' files.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs Ceph's radosgw (Debian: {PACKAGES}); no {', '.join(missing)}")
    boto3 = pytest.importorskip("boto3", reason="makes the bucket; moto depends on it")
    ceph = Ceph(folder)
    try:
        ceph.start()
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY}
        client = boto3.client("s3", endpoint_url=ceph.url, region_name="us-east-1", **keys)
        client.create_bucket(Bucket=BUCKET)
        yield {
            "AWS_ENDPOINT_URL": ceph.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
        }
    finally:
        ceph.stop()
