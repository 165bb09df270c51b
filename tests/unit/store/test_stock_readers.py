"""Shards are read by plain zarr, plain webdataset, tar and zip, without kdcache."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.store import create_or_open, open_cache
from kdcache.store.webdataset_layout import member_key
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.testing.store_contract import ODD_IDS, without

if TYPE_CHECKING:
    from pathlib import Path

IDS = ["b", "a", *ODD_IDS]


def make(path: Path, layout: str) -> Path:
    writer = create_or_open(path, sample_spec(audio="flac"), layout, TOKENIZER_FILES)
    packed = [sample_packed(writer.spec, name) for name in IDS]
    packed[0] = without(packed[0], "lattice.ids")
    writer.commit("u0", packed, [], "x")
    return next((path / "data").iterdir())


def expected(name: str) -> dict[str, np.ndarray]:
    item = sample_packed(sample_spec(audio="flac"), name)
    return dict((without(item, "lattice.ids") if name == "b" else item).columns)


def test_plain_zarr_reads_a_shard(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    shard = make(tmp_path / "cache", "zarr")
    with zarr.storage.ZipStore(shard, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert [u["id"] for u in group.attrs["utterances"]] == IDS
        assert group.attrs["utterances"][0]["text"] == "text of b"
        assert "lattice.starts" not in group  # a column that none of them has
        for row, name in enumerate(IDS):
            arrays = expected(name)
            for column in set(open_cache(tmp_path / "cache").columns) - {"lattice.starts"}:
                start, stop = group[f"{column}.offsets"][row : row + 2]
                shape = group[f"{column}.shape"][row]
                if column not in arrays:
                    assert shape.tolist() == [-1] * 3
                    assert start == stop
                    continue
                found = group[column][start:stop].reshape(shape)
                assert found.dtype == arrays[column].dtype
                assert np.array_equal(found, arrays[column])


def test_plain_webdataset_reads_a_shard(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    shard = make(tmp_path / "cache", "webdataset")
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in samples] == IDS
    for sample, name in zip(samples, IDS, strict=True):
        arrays = expected(name)
        assert sample["__key__"] == member_key(name)
        assert sample["flac"] == arrays.pop("audio").tobytes()
        item = sample_packed(sample_spec(audio="flac"), name)
        assert sample["json"]["tokens"] == list(item.tokens)
        stored = {key for key in sample if key.endswith(".npy")}
        assert stored == {f"{column}.npy" for column in arrays}
        for column, array in arrays.items():
            assert np.array_equal(sample[f"{column}.npy"], array)


def test_arrays_lie_aligned_for_mapping(tmp_path: Path) -> None:
    for layout, alignment in (("zarr", 1), ("webdataset", 64)):
        make(tmp_path / layout, layout)
        catalogue = open_cache(tmp_path / layout).catalogue
        for column, spec in open_cache(tmp_path / layout).columns.items():
            if column != "audio":
                at = catalogue[f"at.{column}"].drop_null().to_numpy()
                assert not (at % max(alignment, np.dtype(spec.dtype).itemsize)).any(), column


def test_a_zip_holds_no_time_and_no_compression(tmp_path: Path) -> None:
    with zipfile.ZipFile(make(tmp_path / "cache", "zarr")) as archive:
        infos = archive.infolist()
        assert archive.testzip() is None
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}


def test_a_tar_holds_no_time_and_no_owner(tmp_path: Path) -> None:
    with tarfile.open(make(tmp_path / "cache", "webdataset"), "r:") as archive:
        members = archive.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
        (0, 0, 0, "", "", 0o644)
    }
    keys = [member.name.split(".")[0] for member in members]
    assert list(dict.fromkeys(keys)) == [member_key(name) for name in IDS]
    assert all(keys[i] == keys[i - 1] or keys[i] not in keys[:i] for i in range(1, len(keys)))


def test_keys_are_unique_and_hold_no_dot() -> None:
    keys = [member_key(name) for name in [*ODD_IDS, "a.b", "a%2Eb", "a/b", "A.b"]]
    assert len(set(keys)) == len(keys)
    assert not any("." in key or "/" in key for key in keys)
