"""Shards on a file system, their catalogue, and commits. Readable with numpy and pyarrow."""

from kdcache.store.cache import Cache, open_cache
from kdcache.store.choice import Choice, Considered
from kdcache.store.compact import CompactReport, compact
from kdcache.store.convert import ConvertReport, convert
from kdcache.store.garbage import DEFAULT_GRACE_SECONDS, collect_garbage, find_garbage
from kdcache.store.packed import FailedUtterance, PackedUtterance
from kdcache.store.repair import (
    DamagedUnit,
    Findings,
    awaited_units,
    drop_damaged_index,
    find_damage,
    restore_header,
    set_aside,
)
from kdcache.store.spec import FORMAT_VERSION, CacheSpec
from kdcache.store.storage import Storage, StoredObject
from kdcache.store.verify import Damage, verify
from kdcache.store.writer import CacheWriter, CommitResult, create_or_open, open_for_write

__all__ = [
    "DEFAULT_GRACE_SECONDS",
    "FORMAT_VERSION",
    "Cache",
    "CacheSpec",
    "CacheWriter",
    "Choice",
    "CommitResult",
    "CompactReport",
    "Considered",
    "ConvertReport",
    "Damage",
    "DamagedUnit",
    "FailedUtterance",
    "Findings",
    "PackedUtterance",
    "Storage",
    "StoredObject",
    "awaited_units",
    "collect_garbage",
    "compact",
    "convert",
    "create_or_open",
    "drop_damaged_index",
    "find_damage",
    "find_garbage",
    "open_cache",
    "open_for_write",
    "restore_header",
    "set_aside",
    "verify",
]
