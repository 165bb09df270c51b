"""Every kind of storage keeps the contract, a real S3 server's among them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from kdcache.store.places import open_storage
from kdcache.testing.storage_contract import StorageContract
from tests.s3_server import s3_bucket

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Storage

__all__ = ["s3_bucket"]


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return open_storage(tmp_path / "root")


class TestFileUrl(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return open_storage(f"file://{tmp_path}/a%20b")


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        pytest.importorskip("obstore", reason="object stores need obstore")
        return open_storage(f"memory://tests/{uuid.uuid4().hex}/deep")


class TestMemoryBucket(StorageContract):
    """Without a prefix."""

    @pytest.fixture
    def storage(self) -> Storage:
        pytest.importorskip("obstore", reason="object stores need obstore")
        return open_storage(f"memory://{uuid.uuid4().hex}")


class TestS3Storage(StorageContract):
    @pytest.fixture
    def storage(self, s3_bucket: str) -> Storage:
        return open_storage(f"{s3_bucket}/{uuid.uuid4().hex}/deep/")
