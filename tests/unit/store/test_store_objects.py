"""Caches in object stores: which URLs, how many requests, and what a failing service is."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from kdcache.errors import (
    ConfigError,
    DamagedCacheError,
    MissingDependencyError,
    StorageError,
    UnfitStorageError,
)
from kdcache.store import create_or_open, open_cache, verify
from kdcache.store.local import LocalStorage
from kdcache.store.places import open_storage
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

obstore = pytest.importorskip("obstore", reason="object stores need obstore")

from kdcache.store.cache import Cache  # noqa: E402
from kdcache.store.objects import ObjectStorage  # noqa: E402
from kdcache.store.retry import Patience  # noqa: E402


@pytest.fixture
def url() -> str:
    return f"memory://tests/{uuid.uuid4().hex}"


def filled(place: str | Path, layout: str = "zarr") -> str | Path:
    writer = create_or_open(place, sample_spec(), layout, TOKENIZER_FILES)
    writer.commit("u0", [sample_packed(writer.spec, name) for name in "abc"], [], "x")
    return place


# URLs


def test_a_file_url_is_a_directory(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/with%20blank")
    assert isinstance(storage, LocalStorage)
    assert storage.folder == tmp_path / "with blank"
    filled(f"file://{tmp_path}/cache")
    assert open_cache(tmp_path / "cache").ids == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("s4://bucket/cache", r"'s4://bucket/cache'.*Did you mean 's3'"),
        ("https://host/cache", r"file://, gs://, memory://, s3://"),
        ("s3:///cache", r"expected s3://bucket/prefix"),
        ("s3://bucket/cache?versionId=3", r"expected s3://bucket/prefix"),
        ("file://server/cache", r"expected file:///path"),
    ],
)
def test_other_urls_are_refused_in_one_sentence(place: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_storage(place)


def test_a_missing_package_is_named_with_its_command(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['obstore'] = None\n"
        "from kdcache.store import open_cache\n"
        "try:\n    open_cache('s3://bucket/cache')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(MissingDependencyError.__name__)
    assert "pip install 'kdcache[objects]'" in done.stdout


def test_local_caches_do_not_import_it(tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    code = (
        f"import sys, kdcache.store\nkdcache.store.open_cache({str(tmp_path / 'cache')!r})['a']\n"
        "print('obstore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Caches


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
def test_the_same_bytes_as_in_a_directory(url: str, tmp_path: Path, layout: str) -> None:
    here, there = open_storage(filled(tmp_path, layout)), open_storage(filled(url, layout))
    assert {e.key: here.read(e.key) for e in here.entries()} == {
        e.key: there.read(e.key) for e in there.entries()
    }
    assert open_cache(url).content_digest() == open_cache(tmp_path).content_digest()


def test_it_has_no_path_but_a_location(url: str) -> None:
    cache = open_cache(filled(url))
    assert cache.location == url
    with pytest.raises(ConfigError, match="is no directory"):
        _ = cache.path


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_messages_name_the_service_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", "here")
    storage = open_storage("s3://bucket/cache")
    assert storage.place == "s3://bucket/cache"
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert storage.place == "s3://bucket/cache at http://127.0.0.1:9"
    assert storage.location == "s3://bucket/cache"
    assert open_storage(url).place == url


def test_the_tokenizer_is_a_checked_copy_that_goes_with_the_cache(url: str) -> None:
    cache = open_cache(filled(url))
    folder = cache.tokenizer_dir
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == TOKENIZER_FILES
    assert cache.tokenizer_dir == folder
    del cache
    assert not folder.exists()
    open_storage(url).put("tokenizer/vocab.txt", b"other")
    with pytest.raises(DamagedCacheError, match=r"tokenizer/vocab\.txt"):
        _ = open_cache(url).tokenizer_dir


class Counting:
    """Counts requests for data and their bytes."""

    def __init__(self, inner: ObjectStorage) -> None:
        self._inner, self.requests, self.bytes = inner, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read_ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        self.requests += 1
        self.bytes += sum(length for _, length in spans)
        return self._inner.read_ranges(key, spans)

    def map(self, key: str) -> np.ndarray:
        raise AssertionError(f"{key} was read whole")


def test_an_utterance_is_one_call_for_its_own_bytes(url: str) -> None:
    storage = open_storage(filled(url))
    assert isinstance(storage, ObjectStorage)
    counting = Counting(storage)
    cache = Cache(counting)
    arrays = cache.read_columns("b")
    assert counting.requests == 1
    assert counting.bytes == sum(array.nbytes for array in arrays.values())


# A service that fails


class Flaky:
    """obstore's functions, of which ``put`` fails after it was carried out, or before."""

    def __init__(self, *, carried_out: bool) -> None:
        self._carried_out = carried_out

    def __getattr__(self, name: str) -> Any:
        return getattr(obstore, name)

    def put(self, store: Any, path: str, data: bytes, **options: Any) -> None:
        if self._carried_out:
            obstore.put(store, path, data, **options)
        raise obstore.exceptions.GenericError("timed out\nand many lines more")


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_create_without_an_answer_is_looked_up(
    url: str, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    storage = open_storage(url)
    monkeypatch.setattr("kdcache.store.objects.obstore", Flaky(carried_out=carried_out))
    if carried_out:
        assert storage.create_exclusive("commits/u0.json", b"attempt 1")
    else:
        with pytest.raises(StorageError, match=r"commits/u0\.json: timed out$"):
            storage.create_exclusive("commits/u0.json", b"attempt 1")
    monkeypatch.undo()
    assert storage.exists("commits/u0.json") is carried_out


def test_a_server_that_does_not_know_the_condition_is_not_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = obstore.exceptions.GenericError("status code: 501 Not Implemented: <Error>")
    monkeypatch.setattr(obstore, "put", Mock(side_effect=refusing))
    with pytest.raises(UnfitStorageError, match=f"^{url}: the server does not know conditional"):
        open_storage(url).create_exclusive("commits/u0.json", b"attempt 1")


def test_of_two_attempts_without_answers_one_wins(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(url)
    storage.create_exclusive("commits/u0.json", b"attempt 1")
    monkeypatch.setattr("kdcache.store.objects.obstore", Flaky(carried_out=True))
    assert not storage.create_exclusive("commits/u0.json", b"attempt 2")
    assert storage.read("commits/u0.json") == b"attempt 1"


def test_a_failed_put_leaves_the_unit_undone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = create_or_open(url, sample_spec(), "zarr", TOKENIZER_FILES)
    monkeypatch.setattr("kdcache.store.objects.obstore", Flaky(carried_out=False))
    with pytest.raises(StorageError, match="timed out"):
        writer.commit("u0", [sample_packed(writer.spec, "a")], [], "x")
    monkeypatch.undo()
    assert writer.committed_units() == set()
    assert verify(url) == []


def test_a_service_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "here",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    storage = open_storage("s3://bucket/cache")
    storage._store = obstore.store.from_url(
        "s3://bucket", client_options={"allow_http": True}, retry_config={"max_retries": 0}
    )
    with pytest.raises(StorageError, match=r"^s3://bucket/cache/a: [^\n]*$"):
        storage.read("a")


class Breaking:
    """obstore's functions, of which reads fail for some times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.asked = times, error, 0

    def __getattr__(self, name: str) -> Any:
        plain = getattr(obstore, name)
        if name not in ("get", "get_ranges", "head", "list"):
            return plain

        def read(*args: Any, **options: Any) -> Any:
            self.asked += 1
            if self.asked <= self.times:
                raise self.error
            return plain(*args, **options)

        return read


def reads(storage: ObjectStorage) -> list[Any]:
    return [
        lambda: storage.read("a"),
        lambda: storage.map("a").tobytes(),
        lambda: storage.read_ranges("a", [(0, 5)])[0].tobytes(),
        lambda: storage.exists("a") and b"bytes",
        lambda: storage.entries("") and b"bytes",
    ]


@pytest.mark.parametrize("read", range(5))
def test_a_read_that_breaks_off_is_repeated(
    url: str, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    opened = open_storage(url)
    opened.put("a", b"bytes")
    storage = ObjectStorage(url, opened._store, Patience(tries=5, first=0.001))  # type: ignore[attr-defined]
    breaking = Breaking(2, obstore.exceptions.GenericError("connection reset"))
    monkeypatch.setattr("kdcache.store.objects.obstore", breaking)
    assert reads(storage)[read]() == b"bytes"
    assert breaking.asked >= 3


@pytest.mark.parametrize("read", range(5))
def test_it_is_not_repeated_for_ever_nor_where_it_was_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    opened = open_storage(url)
    storage = ObjectStorage(url, opened._store, Patience(tries=3, first=0.001))  # type: ignore[attr-defined]
    breaking = Breaking(99, obstore.exceptions.GenericError("connection reset"))
    monkeypatch.setattr("kdcache.store.objects.obstore", breaking)
    with pytest.raises(StorageError, match="connection reset"):
        reads(storage)[read]()
    assert breaking.asked <= 2 * 3
    refusing = Breaking(99, obstore.exceptions.PermissionDeniedError("no"))
    monkeypatch.setattr("kdcache.store.objects.obstore", refusing)
    with pytest.raises(StorageError):
        reads(storage)[read]()
    assert refusing.asked <= 2
