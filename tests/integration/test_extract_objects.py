"""Extraction into an object store that refuses, breaks off, and loses its answers to writes."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kdcache.errors import StorageError
from kdcache.extract import ExtractConfig, prepare
from kdcache.extract.actor import ExtractActor, Job
from kdcache.extract.pool import Done
from kdcache.store import compact, find_garbage, open_cache, verify
from kdcache.store.places import open_storage
from kdcache.store.storage import probe_exclusive_create
from tests.s3_server import BUCKET, s3_server
from tests.s3_ways import CarelessWay, IgnorantWay, ScriptedWay, open_way, url_of
from tests.soak.faulty_s3 import FaultyWay
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from kdcache.store import Storage
    from kdcache.store.writer import CacheWriter, CommitResult

obstore = pytest.importorskip("obstore", reason="object stores need obstore")

LENGTHS = [4000 + 100 * i for i in range(24)]
SHARE = 0.25


UNITS = 3
FOLDERS = ("data", "catalogue", "commits")
LOST = ("cut", "silent", 500)
"""The server has carried out the write, and the client is not told."""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture
def upstream(server: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Host and port of the server, to which the environment leads; pauses are short."""
    monkeypatch.setattr("kdcache.extract.patience.FIRST", 0.01)
    monkeypatch.setattr("kdcache.extract.actor.environment", lambda threads: {})
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server["AWS_ENDPOINT_URL"].removeprefix("http://")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a teacher, and what nobody disturbed: ``undisturbed``."""
    place = tmp_path_factory.mktemp("objects")
    save_corpus(place / "wav", LENGTHS)
    save_fake_teacher(place / "teacher")
    extract_here(config(place, str(place / "undisturbed")))
    return place


def config(place: Path, cache: str, **changes: object) -> ExtractConfig:
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": cache},
        "targets": ["lattice"],
        "batch_seconds": 2.0,
        "unit_utterances": 2,
    }
    return ExtractConfig.model_validate({**settings, **changes})


def extract(settings: ExtractConfig) -> list[Done]:
    """All units through one actor, in this process."""
    ready = prepare(settings)
    actor = ExtractActor(Job(settings, ready.spec, "cpu"))
    assert actor.start() is None
    told = [actor.extract(unit) for unit in ready.plan.units]
    assert all(isinstance(item, Done) for item in told), told
    return told


def check(place: Path, where: str, units: int) -> None:
    """Everything is there, once, and as nobody's disturbance left it."""
    cache = open_cache(where)
    assert len(cache) == len(LENGTHS)
    assert len(cache.units) == units
    assert verify(where) == []
    assert [entry for entry in find_garbage(where) if not entry.key.startswith("tmp/")] == []
    undisturbed = open_cache(place / "undisturbed")
    assert cache.content_digest() == undisturbed.content_digest()


def settings_of(place: Path, where: str) -> ExtractConfig:
    return config(place, where, unit_utterances=len(LENGTHS) // UNITS)


@pytest.mark.parametrize("seed", [1, 2])
def test_lost_answers_and_refusals_change_nothing(place, upstream, monkeypatch, seed):
    where = f"s3://{BUCKET}/run-{seed}"
    with open_way(FaultyWay(upstream, 0.0, SHARE, seed)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(way))
        done = extract(config(place, where))
        compact(where)
        assert way.failed > 10, "hardly anything went wrong"
    assert sum(item.packed for item in done) == len(LENGTHS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{upstream}")
    check(place, where, units=12)


@pytest.mark.parametrize("fault", [503, *LOST])
def test_a_fault_in_each_write_of_every_commit(place, upstream, monkeypatch, fault):
    where = f"s3://{BUCKET}/each-{fault}"
    # A client that is told nothing leaves after this, not after half a minute.
    options = {"allow_http": True, "timeout": "500ms" if fault == "silent" else "30s"}
    monkeypatch.setattr("kdcache.store.objects._client_options", lambda: options)
    with open_way(ScriptedWay(upstream, FOLDERS, fault)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(way))
        done = extract(settings_of(place, where))
        for folder in FOLDERS:
            struck = [path for path in way.suffered if f"/{folder}/" in path]
            assert len(struck) == UNITS, f"a write to {folder} was spared"
        assert sum(item.packed for item in done) == len(LENGTHS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{upstream}")
    check(place, where, UNITS)


@pytest.mark.parametrize("fault", [503, "cut", 500])
def test_a_fault_in_every_request_of_an_upload_in_parts(upstream, monkeypatch, fault):
    """Its beginning, each part, and the end that makes it appear."""
    monkeypatch.setattr("kdcache.store.objects._PART_BYTES", 5 * 2**20)
    data = random.Random(fault).randbytes(11 * 2**20)
    with open_way(ScriptedWay(upstream, ["data"], fault)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(way))
        storage = open_storage(f"s3://{BUCKET}/parts-{fault}")
        storage.put("data/large", data)
        assert len(way.suffered) >= 5
    assert storage_at(upstream, monkeypatch, storage.location).read("data/large") == data


def storage_at(upstream: str, monkeypatch: pytest.MonkeyPatch, location: str) -> Storage:
    """Without anybody in the way."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{upstream}")
    return open_storage(location)


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("write", ["put", "create_exclusive"])
def test_a_bucket_that_goes_away_is_the_storage_s_failure(write):
    """Which is waited out; any other error would be held against the utterances."""
    with pytest.raises(StorageError, match=r"s3://gone/cache/a: the bucket is not there"):
        getattr(open_storage("s3://gone/cache"), write)("a", b"data")


def test_refusals_that_outlast_the_library_are_waited_out(place, upstream, monkeypatch):
    where = f"s3://{BUCKET}/long"
    brief = partial(obstore.store.from_url, retry_config={"max_retries": 2})
    monkeypatch.setattr("kdcache.store.objects.from_url", brief)
    with open_way(ScriptedWay(upstream, ["commits"], 503, times=7)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(way))
        (done,) = extract(config(place, where, unit_utterances=len(LENGTHS)))
        assert list(way.suffered.values()) == [7]
        assert done.packed == len(LENGTHS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{upstream}")
    check(place, where, units=1)


class Recording:
    """A writer, and what became of its commits."""

    def __init__(self, inner: CacheWriter) -> None:
        self._inner = inner
        self.results: list[CommitResult] = []

    def commit(self, *unit: object) -> CommitResult:
        self.results.append(self._inner.commit(*unit))  # type: ignore[arg-type]
        return self.results[-1]


@pytest.mark.parametrize("fault", [503, "cut"])
def test_of_two_actors_on_the_same_units_one_wins_each(place, upstream, monkeypatch, fault):
    """Though neither is told at first what became of its commit."""
    where = f"s3://{BUCKET}/race-{fault}"
    ready = prepare(settings_of(place, where))
    with open_way(ScriptedWay(upstream, ["commits"], fault, times=2)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(way))
        actors = [ExtractActor(Job(settings_of(place, where), ready.spec, "cpu")) for _ in "ab"]
        writers = [recorded(actor) for actor in actors]
        both = threading.Barrier(2)

        def work(actor: ExtractActor) -> None:
            for unit in ready.plan.units:
                both.wait(60)
                assert isinstance(actor.extract(unit), Done)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, actors))
    results = [result for writer in writers for result in writer.results]
    assert sorted(r.unit for r in results if r.won) == sorted(u.key for u in ready.plan.units)
    visible = {result.unit: result.attempt for result in results if result.won}
    assert all(result.attempt == visible[result.unit] for result in results)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{upstream}")
    check(place, where, UNITS)


def recorded(actor: ExtractActor) -> Recording:
    assert actor.start() is None
    actor._writer = Recording(actor._writer)  # type: ignore[assignment]
    return actor._writer  # type: ignore[return-value]


# Servers on which commits are not safe


def command(place: Path, where: str, **changes: object) -> Sequence[str]:
    path = place / "extract.yaml"
    path.write_text(json.dumps(config(place, where, **changes).model_dump(mode="json")))
    return ["extract", str(path)]


@pytest.mark.parametrize(
    ("kind", "why", "goal"),
    [
        (CarelessWay, "lets two writers create one file", None),
        (CarelessWay, "lets two writers create one file", 0.01),
        (IgnorantWay, "does not know conditional puts", None),
    ],
)
def test_an_unfit_server_is_refused_by_name(place, upstream, monkeypatch, kind, why, goal):
    """With exit code 2, in one sentence, before a teacher has heard anything."""
    from kdcache.cli.main import main

    monkeypatch.setattr("kdcache.extract.driver.ray_scout", lambda *_: pytest.fail)
    monkeypatch.setattr("kdcache.extract.driver.work_off", pytest.fail)
    where = f"s3://{BUCKET}/{kind.__name__}"
    # Without a given number format its settings are chosen on a sample.
    target = {"kind": "encoder_logits", "codec": {"name": "root"}} if goal else "encoder_logits"
    with open_way(kind(upstream)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(way))
        told = CliRunner().invoke(main, command(place, where, targets=[target], max_kl=goal))
        assert told.exit_code == 2, told.output
        assert f"{where} at {url_of(way)}: " in told.stderr
        assert why in told.stderr
        assert len(told.stderr.strip().splitlines()) == 1
        assert told.stdout == ""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{upstream}")
    assert open_storage(where).entries() == []


@pytest.mark.usefixtures("upstream")
def test_a_bucket_that_does_not_exist_is_a_mistake(place):
    from kdcache.cli.main import main

    told = CliRunner().invoke(main, command(place, "s3://never-made/cache"))
    assert told.exit_code == 2, told.output
    assert "s3://never-made/cache at http" in told.stderr
    assert "there is no such bucket; make it" in told.stderr


def test_a_sound_server_is_probed_with_few_requests(upstream, monkeypatch):
    with open_way(ScriptedWay(upstream, [], 503)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(way))
        probe_exclusive_create(open_storage(f"s3://{BUCKET}/probed"))
        assert way.requests == 5
