"""Extraction into an object store that refuses, breaks off, and loses its answers to writes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from kdcache.extract import ExtractConfig, prepare
from kdcache.extract.actor import ExtractActor, Job
from kdcache.extract.pool import Done
from kdcache.store import find_garbage, open_cache, verify
from tests.s3_server import BUCKET, s3_server
from tests.soak.faulty_s3 import FaultyWay
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LENGTHS = [4000 + 100 * i for i in range(24)]
SHARE = 0.25


@contextmanager
def faulty(healthy: str, seed: int) -> Iterator[FaultyWay]:
    way = FaultyWay(healthy.removeprefix("http://"), 0.0, SHARE, seed)
    threading.Thread(target=way.serve_forever, daemon=True).start()
    try:
        yield way
    finally:
        way.shutdown()
        way.server_close()


def config(place: Path, cache: str) -> ExtractConfig:
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": cache},
        "targets": ["lattice"],
        "batch_seconds": 2.0,
        "unit_utterances": 2,
    }
    return ExtractConfig.model_validate(settings)


def extract(settings: ExtractConfig) -> list[Done]:
    """All units through one actor, in this process."""
    ready = prepare(settings)
    actor = ExtractActor(Job(settings, ready.spec, "cpu"))
    assert actor.start() is None
    told = [actor.extract(unit) for unit in ready.plan.units]
    assert all(isinstance(item, Done) for item in told), told
    return told


@pytest.mark.parametrize("seed", [1, 2])
def test_lost_answers_and_refusals_change_nothing(tmp_path, monkeypatch, seed):
    pytest.importorskip("obstore", reason="object stores need obstore")
    monkeypatch.setattr("kdcache.extract.patience.FIRST", 0.01)
    monkeypatch.setattr("kdcache.extract.actor.environment", lambda threads: {})
    save_corpus(tmp_path / "wav", LENGTHS)
    save_fake_teacher(tmp_path / "teacher")
    with s3_server() as variables, faulty(variables["AWS_ENDPOINT_URL"], seed) as way:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{way.server_address[1]}")
        where = f"s3://{BUCKET}/run-{seed}"
        done = extract(config(tmp_path, where))
        assert way.failed > 10, "hardly anything went wrong"
        monkeypatch.setenv("AWS_ENDPOINT_URL", variables["AWS_ENDPOINT_URL"])
        cache = open_cache(where)
        assert sum(item.packed for item in done) == len(cache) == len(LENGTHS)
        assert verify(where) == []
        assert [entry for entry in find_garbage(where) if not entry.key.startswith("tmp/")] == []
        here = extract_here(config(tmp_path, str(tmp_path / "here")))
        assert cache.content_digest() == here.content_digest()
