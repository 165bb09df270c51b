"""Both layouts keep the store's contract, in directories and in object stores."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from kdcache.testing.store_contract import StoreContract
from tests.s3_server import s3_bucket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["s3_bucket"]


class TestZarrStore(StoreContract):
    layout = "zarr"


class TestWebdatasetStore(StoreContract):
    layout = "webdataset"


class InMemory:
    @pytest.fixture
    def places(self) -> Callable[[str], str]:
        pytest.importorskip("obstore", reason="object stores need obstore")
        folder = uuid.uuid4().hex
        return lambda name: f"memory://tests/{folder}/{name}"


class TestZarrInMemory(InMemory, StoreContract):
    layout = "zarr"


class TestWebdatasetInMemory(InMemory, StoreContract):
    layout = "webdataset"


class TestWebdatasetOnS3(StoreContract):
    layout = "webdataset"

    @pytest.fixture
    def places(self, s3_bucket: str) -> Callable[[str], str]:
        folder = uuid.uuid4().hex
        return lambda name: f"{s3_bucket}/{folder}/{name}"
