"""A stream is the same from a directory, from an object store, and through an index."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.errors import DamagedCacheError
from kdcache.store import compact, create_or_open, open_cache
from kdcache.store.places import open_storage
from kdcache.stream import stream_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.testing.store_contract import flip_bit

if TYPE_CHECKING:
    from pathlib import Path


def fill(place: str | Path, layout: str) -> str | Path:
    writer = create_or_open(place, sample_spec(), layout, TOKENIZER_FILES)
    for unit in range(3):
        packed = [sample_packed(writer.spec, f"{unit}-{i}") for i in range(4)]
        writer.commit(f"u{unit}", packed, [], "x")
    return place


def flat(value: Any) -> Any:
    """Plain lists of whatever is in a batch."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if is_dataclass(value):
        return {f.name: flat(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    return value


def batches(place: str | Path) -> list[Any]:
    stream = stream_cache(str(place), batch_seconds=30, seed=3)
    return [flat(batch) for step in stream.steps() for batch in step.batches]


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
def test_the_same_batches_from_everywhere(tmp_path: Path, layout: str) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    here = fill(tmp_path / "cache", layout)
    there = fill(f"memory://stream/{tmp_path.name}", layout)
    expected = batches(here)
    assert sum(len(batch["ids"]) for batch in expected) == 12
    assert batches(there) == expected
    for place in (here, there):
        compact(place)
        assert batches(place) == expected


def test_damage_in_an_object_store_is_raised(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = str(fill(f"memory://stream/{tmp_path.name}", "webdataset"))
    row = open_cache(url).catalogue.slice(5, 1).to_pylist()[0]
    flip_bit(open_storage(url), row["shard"], 8 * row["at.hidden.values"])
    with pytest.raises(DamagedCacheError, match=rf"'{row['id']}', column hidden\.values"):
        batches(url)
