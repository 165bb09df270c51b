"""What all tests share: a quiet environment, human speech where there is any, a Ray cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from kdcache.cli.main import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports torch, Ray or transformers. Two threads everywhere: sums are split
# by thread, so that numbers of a machine with more cores are those of a small one.
os.environ.update(ENVIRONMENT)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# Children (subprocesses, Ray workers) import kdcache from the tree, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
).rstrip(os.pathsep)

# A shell's background jobs, such as the tests may be, ignore ^C, and so would what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; HYPOTHESIS_PROFILE=search looks for new ones.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use Ray come last: its processes would slow all others down."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of human speech; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("KDCACHE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "digits").is_dir():
        pytest.skip(f"no human speech at {folder}; set KDCACHE_DATA to its folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster in this machine: two CPUs, a small object store, no dashboard."""
    from kdcache.session import ray_session

    os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")  # nobody waits ten seconds
    with ray_session(None, {"num_cpus": 2, "object_store_memory": 100_000_000}):
        yield


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny corpus of tones: ``train.jsonl`` and ``tokenizer/``."""
    from kdcache.testing.tones import write_tones

    return write_tones(tmp_path_factory.mktemp("tones"))
