"""A teacher actor in this process, and what Ray tells of those that died elsewhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError

from kdcache.errors import StorageError, StorageFullError
from kdcache.extract import ExtractConfig, prepare
from kdcache.extract import actor as actor_module
from kdcache.extract.actor import ExtractActor, Job, RayActors, account
from kdcache.extract.config import CacheSettings
from kdcache.extract.pool import ActorLostError, Done
from kdcache.store import CacheWriter, open_cache, verify
from tests.unit.extract.extract_fakes import ADAPTER, save_corpus, save_fake_teacher

LENGTHS = [4000, 4400, 8000]


@pytest.fixture
def ready(tmp_path, monkeypatch):
    """A run that is fit to start, whose pauses are short."""
    monkeypatch.setattr("kdcache.extract.patience.FIRST", 1e-4)
    monkeypatch.setattr("kdcache.extract.actor.environment", lambda threads: {})
    save_fake_teacher(tmp_path / "teacher")
    manifest, _ = save_corpus(tmp_path / "wav", LENGTHS)
    settings = {
        "teacher": {"path": tmp_path / "teacher", "adapter": ADAPTER},
        "corpus": manifest,
        "cache": {"path": str(tmp_path / "cache")},
        "targets": ["lattice"],
        "storage_patience": 0.2,
    }
    config = ExtractConfig.model_validate(settings)
    return config, prepare(config)


def actor_of(ready) -> ExtractActor:
    config, preparation = ready
    return ExtractActor(Job(config, preparation.spec, "cpu"))


@pytest.fixture
def failures(monkeypatch):
    """Errors that storages will raise, each once, when a unit is committed."""
    waiting, asked = [], []
    commit = CacheWriter.commit

    def failing(self, unit, *rest):
        asked.append(unit)
        if waiting:
            raise waiting.pop(0)
        return commit(self, unit, *rest)

    monkeypatch.setattr(CacheWriter, "commit", failing)
    return waiting, asked


def test_a_unit_is_computed_and_committed(ready):
    actor = actor_of(ready)
    assert actor.start() is None
    done = actor.extract(ready[1].plan.units[0])
    assert isinstance(done, Done)
    assert (done.packed, done.failed) == (3, 0)
    assert len(open_cache(ready[0].cache.path)) == 3


def test_two_units_at_once_are_both_committed(tmp_path, ready):
    config = ready[0].model_copy(
        update={"unit_utterances": 2, "cache": CacheSettings(path=str(tmp_path / "other"))}
    )
    actor = actor_of((config, prepare(config)))
    assert actor.start() is None
    units = prepare(config).plan.units
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(actor.extract, units))
    assert sorted(one.packed for one in done) == [1, 2]
    assert all(one.stages.write > 0 and one.stages.teacher > 0 for one in done)
    assert all(one.halvings == 0 for one in done)
    assert len(open_cache(config.cache.path)) == 3
    assert verify(config.cache.path) == []


def test_halved_batches_are_told(tmp_path, ready):
    save_fake_teacher(tmp_path / "teacher", room=8000)
    actor = actor_of(ready)
    assert actor.start() is None
    done = actor.extract(ready[1].plan.units[0])
    assert (done.packed, done.failed) == (3, 0)
    assert done.halvings > 0


def test_a_storage_that_fails_costs_no_second_computation(ready, failures):
    actor = actor_of(ready)
    actor.start()
    waiting, asked = failures
    waiting += [StorageError("503 Slow Down"), StorageError("timed out")]
    teacher = actor._worker._teacher
    heard = len(teacher.calls)
    assert isinstance(actor.extract(ready[1].plan.units[0]), Done)
    assert len(asked) == 3
    assert len(teacher.calls) == heard + 1
    assert verify(ready[0].cache.path) == []


def test_a_storage_that_stays_away_is_told_and_nothing_is_visible(ready, failures):
    actor = actor_of(ready)
    actor.start()
    failures[0].extend([StorageError("503 Slow Down")] * 100_000)
    told = actor.extract(ready[1].plan.units[0])
    assert isinstance(told, StorageError)
    assert len(failures[1]) > 2
    assert len(open_cache(ready[0].cache.path)) == 0


def test_a_full_storage_is_told_at_once(ready, failures):
    actor = actor_of(ready)
    actor.start()
    failures[0].append(StorageFullError("No space left on device"))
    assert isinstance(actor.extract(ready[1].plan.units[0]), StorageFullError)
    assert len(failures[1]) == 1


def test_an_actor_waits_for_the_storage_when_it_starts(ready, monkeypatch):
    failures = [StorageError("connection refused")] * 2
    opened = []

    def failing(*arguments):
        if failures:
            raise failures.pop()
        opened.append(arguments)

    monkeypatch.setattr("kdcache.store.create_or_open", failing)
    assert actor_of(ready).start() is None
    assert len(opened) == 1


# What Ray tells


def died(message: str) -> ActorDiedError:
    context = ActorDiedErrorContext(
        error_message=message, class_name="ExtractActor", pid=4711, node_ip_address="10.0.0.1",
        actor_id=b"\1" * 16,
    )  # fmt: skip
    return ActorDiedError(context)


PROCESS = "The actor is dead because its worker process has died."
NODE = "The actor died because its node has died. Node Id: 00ff\n\tthe actor's node was terminated"


@pytest.mark.parametrize(
    ("error", "with_node"),
    [
        (died(PROCESS), False),
        (died(NODE), True),
        (ActorUnavailableError("RPC error", b"\1" * 16), True),
        (OutOfMemoryError("the node ran low on memory"), False),
        (RayTaskError("extract", "Traceback: its node has died", ValueError("no")), False),
    ],
)
def test_only_a_lost_node_excuses_the_unit(monkeypatch, error, with_node):
    def get(call):
        raise error

    monkeypatch.setattr(actor_module.ray, "get", get)
    with pytest.raises(ActorLostError) as caught:
        RayActors.result(object.__new__(RayActors), "call")
    assert caught.value.with_node is with_node


def test_an_account_is_one_short_line_without_particulars():
    told = account(died(f"{PROCESS} Worker exit type: SYSTEM_ERROR " + 50 * "and so on, "))
    assert told.startswith("ActorDiedError: The actor died unexpectedly before finishing this task")
    assert "its worker process has died. Worker exit type: SYSTEM_ERROR" in told
    assert "4711" not in told
    assert "10.0.0.1" not in told
    assert "\n" not in told
    assert len(told) <= 300
