"""Both layouts keep the store's contract."""

from __future__ import annotations

from kdcache.testing.store_contract import StoreContract


class TestZarrStore(StoreContract):
    layout = "zarr"


class TestWebdatasetStore(StoreContract):
    layout = "webdataset"
