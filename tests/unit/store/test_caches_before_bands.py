"""A cache of before lattices had bands: its header knows no column ``starts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kdcache.codec import ColumnSpec, LatticeCodec
from kdcache.store import CacheWriter, create_or_open, open_cache, verify
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from pathlib import Path


def columns_of_then(self: LatticeCodec) -> dict[str, ColumnSpec]:
    return {
        "logp": ColumnSpec(self.quantiser.dtype, 3),
        "ids": ColumnSpec("uint16", 3, optional=True),
    }


def write(path: Path, layout: str, names: list[str]) -> CacheWriter:
    writer = create_or_open(path, sample_spec(), layout, TOKENIZER_FILES)
    writer.commit("-".join(names), [sample_packed(writer.spec, name) for name in names], [], "x")
    return writer


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
def test_is_read_verified_and_gone_on_with(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        then.setattr(LatticeCodec, "columns", columns_of_then)
        write(tmp_path / "old", layout, ["a", "b"])
    old = open_cache(tmp_path / "old")
    assert "lattice.starts" not in old.columns
    assert old["a"]["lattice"].starts_T is None  # type: ignore[union-attr]
    write(tmp_path / "old", layout, ["c"])
    write(tmp_path / "new", layout, ["a", "b"])
    write(tmp_path / "new", layout, ["c"])
    old.refresh()
    new = open_cache(tmp_path / "new")
    assert "lattice.starts" in new.columns
    assert list(old) == list(new) == ["a", "b", "c"]
    assert old.content_digest() == new.content_digest()
    shards = [{f.name: f.read_bytes() for f in (c.path / "data").iterdir()} for c in (old, new)]
    assert shards[0] == shards[1]
    assert verify(tmp_path / "old") == []
