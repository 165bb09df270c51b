"""A cache of as many rows as a disk can hold, that has an index and no shards.

Columns repeat the rows of a real catalogue and are made in files, of which the machine keeps in
memory what it can: the index is written with the memory of a small one. Columns of one type share
their contents; only ids and units are made up row by row.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from kdcache.store import create_or_open, open_cache
from kdcache.store.checksums import file_hash
from kdcache.store.commits import CommitRecord, commit_key
from kdcache.store.files import FileRecord
from kdcache.store.index import CHECKED_BYTES, INDEX_KEY, save_index
from kdcache.store.places import open_storage
from kdcache.store.seal import seal, unseal
from kdcache.testing.samples import TOKENIZER_FILES

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "corpus/speaker-{:06d}/utt-{:010d}"
_BLOCK = 1 << 20


def write_synthetic(path: Path, like: Path, rows: int, unit_rows: int) -> None:
    """A cache of ``rows`` rows like those of the compacted cache ``like``."""
    cache, storage = open_cache(like), open_storage(path)
    create_or_open(path, cache.spec, "webdataset", TOKENIZER_FILES)
    names = [f"{unit:064x}" for unit in range(-(-rows // unit_rows))]
    commits = write_commits(path, names, cache.spec.spec_hash, unit_rows)
    # The real writer makes the files of an empty index; the rows then take their place.
    save_index(storage, cache.spec.spec_hash, cache.catalogue.slice(0, 0), cache.failures, commits)
    with tempfile.TemporaryDirectory(dir=path) as scratch:
        made = Columns(Path(scratch), rows)
        table = made.table(cache.catalogue.slice(0, 200).combine_chunks(), names, unit_rows)
        target = path / "index" / "good-large.arrow"
        with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    size = target.stat().st_size
    digest = file_hash(target.read_bytes()) if size <= CHECKED_BYTES else "0" * 32
    head = unseal(storage.read(INDEX_KEY), INDEX_KEY)
    head["good"] = FileRecord("index/good-large.arrow", size, digest).to_dict()
    storage.put(INDEX_KEY, seal(head))


def write_commits(
    path: Path, names: list[str], spec_hash: str, unit_rows: int
) -> dict[str, CommitRecord]:
    """A commit record a unit, since every opening lists these."""
    shard = FileRecord("data/none.tar", 1, "0" * 32)
    part = FileRecord("catalogue/none.parquet", 1, "0" * 32)
    (path / "commits").mkdir()
    commits = {}
    for name in names:
        commits[name] = CommitRecord(name, "bench", spec_hash, shard, part, unit_rows, 0)
        (path / commit_key(name)).write_bytes(commits[name].to_bytes())
    return commits


class Columns:
    """Columns of ``rows`` rows, in files of a directory."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder, self._rows = folder, rows
        self._made: dict[Any, np.ndarray] = {}

    def table(self, pattern: pa.Table, units: list[str], unit_rows: int) -> pa.Table:
        """A row a row, of the pattern's schema."""
        columns = {name: pattern[name].chunk(0) for name in pattern.column_names}
        made = {name: self._like(array, self._rows) for name, array in columns.items()}
        codes = self._array("unit", np.int32, self._rows, lambda rows: rows // unit_rows)
        made["unit"] = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(units))
        made["id"] = self._ids()
        return pa.table(made)

    def _like(self, array: pa.Array, count: int) -> pa.Array:
        kind = array.type
        if pa.types.is_dictionary(kind):
            codes = self._array("zeros", np.int32, count, lambda rows: rows * 0)
            return pa.DictionaryArray.from_arrays(pa.array(codes), array.dictionary)
        if array.null_count:  # all of them, as of errors
            return pa.nulls(count, kind)
        if pa.types.is_large_list(kind):
            each = max(1, len(array.flatten()) // len(array))
            values = self._like(array.flatten(), each * count)
            return pa.LargeListArray.from_arrays(pa.array(self._offsets(each, count)), values)
        if pa.types.is_large_string(kind):
            each = max(1, len("".join(array.to_pylist())) // len(array))
            data = self._array("text", np.uint8, each * count, lambda rows: 97 + rows % 26)
            return self._strings(self._offsets(each, count), data, count)
        dtype = kind.to_pandas_dtype()
        sample = array.to_numpy()
        numbers = self._array("numbers", dtype, count, lambda rows: sample[rows % len(sample)])
        return pa.array(numbers)

    def _ids(self) -> pa.Array:
        width = len(ID.format(0, 0))
        text = np.frombuffer(ID.format(0, 0).encode(), np.uint8)
        places = [(i, 10 ** (width - 1 - i), 1) for i in range(width - 10, width)]
        before = width - 10 - len("/utt-")
        places += [(i, 10 ** (before - 1 - i), 1000) for i in range(before - 6, before)]

        def spell(at: np.ndarray) -> np.ndarray:
            rows = at[::width] // width
            spelt = np.tile(text, (len(rows), 1))
            for place, power, divisor in places:
                spelt[:, place] = 48 + rows // divisor // power % 10
            return spelt.reshape(-1)

        data = self._array("ids", np.uint8, width * self._rows, spell, width << 15)
        return self._strings(self._offsets(width, self._rows), data, self._rows)

    def _strings(self, offsets: np.ndarray, data: np.ndarray, count: int) -> pa.Array:
        return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))

    def _offsets(self, each: int, count: int) -> np.ndarray:
        return self._array(("offsets", each), np.int64, count + 1, lambda rows: rows * each)

    def _array(
        self,
        name: Any,
        dtype: Any,
        count: int,
        make: Callable[[np.ndarray], np.ndarray],
        block: int = _BLOCK,
    ) -> np.ndarray:
        """``make`` of all numbers from 0, in a file; the same for the same name, type and size."""
        key = (name, np.dtype(dtype), count)
        if key not in self._made:
            file = self._folder / str(len(self._made))
            array = np.memmap(file, dtype, "w+", shape=(count,))
            for at in range(0, count, block):
                array[at : at + block] = make(np.arange(at, min(at + block, count)))
            self._made[key] = array
        return self._made[key]
