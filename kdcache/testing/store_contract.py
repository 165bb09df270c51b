"""What a store must do, whatever its layout and storage. Subclass, name the layout, run pytest.

class TestMyLayout(StoreContract):
    layout = "zarr"

A subclass for another storage than a local directory gives ``places`` as well.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from kdcache.codec import LatticeRecord, PosteriorRecord, VectorRecord
from kdcache.errors import (
    ConfigError,
    DamagedCacheError,
    NotACacheError,
    SpecMismatchError,
    UnknownUtteranceError,
)
from kdcache.store import (
    Cache,
    CacheSpec,
    CacheWriter,
    collect_garbage,
    create_or_open,
    find_garbage,
    open_cache,
    open_for_write,
    verify,
)
from kdcache.store.places import open_storage
from kdcache.testing.samples import (
    TOKENIZER_FILES,
    sample_failed,
    sample_packed,
    sample_spec,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kdcache.store import PackedUtterance, Storage

ODD_IDS = ["a/b/c.wav", "spk 1.2", "ü-日本", "x" * 150, "100%", "Sub/a~b_c-d", "__dunder__"]


class StoreContract:
    """Tests of one layout.

    Attributes:
        layout: its name.
    """

    layout: ClassVar[str]

    @pytest.fixture
    def spec(self) -> CacheSpec:
        """What the caches are made of."""
        return sample_spec()

    @pytest.fixture
    def places(self, tmp_path: Path) -> Callable[[str], str]:
        """Where caches can be, by name: below one empty folder."""
        return lambda name: str(tmp_path / "caches" / name)

    @pytest.fixture
    def path(self, places: Callable[[str], str]) -> str:
        """Where the cache is to be."""
        return places("cache")

    @pytest.fixture
    def files(self, path: str) -> Storage:
        """What its files lie in, for those who damage them."""
        return open_storage(path)

    @pytest.fixture
    def writer(self, path: str, spec: CacheSpec) -> CacheWriter:
        """A writer of an empty cache."""
        return create_or_open(path, spec, self.layout, TOKENIZER_FILES)

    def fill(self, writer: CacheWriter, units: dict[str, list[str]], seed: int = 0) -> None:
        """Commit units of utterances with these ids."""
        for unit, ids in units.items():
            packed = [sample_packed(writer.spec, utterance, seed) for utterance in ids]
            assert writer.commit(unit, packed, [], "attempt").won

    def test_reads_what_was_written(self, writer: CacheWriter) -> None:
        """Arrays bit for bit, catalogue fields, and ids in sorted order."""
        ids = ["c", "a", "b", *ODD_IDS]
        self.fill(writer, {"u0": ids[:4], "u1": ids[4:]})
        cache = open_cache(writer.location)
        assert cache.ids == sorted(ids) == cache.catalogue["id"].to_pylist()
        for row, utterance in enumerate(cache.ids):
            expected = sample_packed(writer.spec, utterance)
            assert_same_columns(cache.read_columns(utterance), expected.columns)
            assert_same_columns(cache.read_columns(row), expected.columns)
            stored = cache.catalogue.slice(row, 1).to_pylist()[0]
            assert stored["text"] == expected.utterance.text
            assert stored["speaker"] == expected.utterance.speaker
            assert stored["tokens"] == list(expected.tokens)
            assert stored["duration"] == expected.duration
            assert stored["frames"] == expected.frames
            measure = np.float32(expected.fidelity["lattice.kl_mean"])
            assert stored["fidelity.lattice.kl_mean"] == measure

    def test_is_a_mapping_of_decoded_targets(self, writer: CacheWriter) -> None:
        """By id, then by the target's name."""
        self.fill(writer, {"u0": ["a", "b"]})
        cache = open_cache(writer.location)
        assert list(cache) == ["a", "b"]
        assert len(cache) == 2
        assert "a" in cache
        assert "z" not in cache
        record = cache["a"]
        assert isinstance(record["lattice"], LatticeRecord)
        assert isinstance(record["encoder_logits"], PosteriorRecord)
        assert isinstance(record["hidden"], VectorRecord)
        assert cache.get("a") is not None
        assert cache.get("z", "nothing") == "nothing"
        assert {name for name, _ in cache.items()} == {"a", "b"}

    def test_decodes_as_its_codec_does(self, writer: CacheWriter) -> None:
        """A target read from the store equals one that never was in it."""
        self.fill(writer, {"u0": ["a"]})
        columns = sample_packed(writer.spec, "a").columns
        codec = writer.spec.codec("lattice")
        own = {name: columns[f"lattice.{name}"] for name in ("logp", "ids")}
        expected, found = codec.decode(own), open_cache(writer.location).read_target("a", "lattice")
        assert isinstance(expected, LatticeRecord)
        assert isinstance(found, LatticeRecord)
        assert np.array_equal(expected.logp_TSC, found.logp_TSC)
        assert np.array_equal(expected.ids_TSK, found.ids_TSK)

    def test_an_empty_cache_is_a_cache(self, writer: CacheWriter) -> None:
        """Created, nothing committed yet."""
        cache = open_cache(writer.location)
        assert len(cache) == 0
        assert cache.failures.num_rows == 0
        assert verify(writer.location) == []
        assert (cache.tokenizer_dir / "vocab.txt").read_bytes() == TOKENIZER_FILES["vocab.txt"]

    def test_refresh_sees_later_commits(self, writer: CacheWriter) -> None:
        """And nothing before it is called."""
        self.fill(writer, {"u0": ["b"]})
        cache = open_cache(writer.location)
        self.fill(writer, {"u1": ["a"]})
        assert cache.ids == ["b"]
        cache.refresh()
        assert cache.ids == ["a", "b"]
        assert_same_columns(cache.read_columns("a"), sample_packed(writer.spec, "a").columns)

    def test_failed_utterances_are_listed(self, writer: CacheWriter) -> None:
        """With code and message, beside the good ones; a unit may have no good one at all."""
        good = [sample_packed(writer.spec, "a")]
        writer.commit("u0", good, [sample_failed("bad")], "x")
        result = writer.commit("u1", [], [sample_failed("worse")], "x")
        assert (result.utterances, result.failed) == (0, 1)
        cache = open_cache(writer.location)
        assert cache.ids == ["a"]
        assert cache.failures["id"].to_pylist() == ["bad", "worse"]
        assert cache.failures["error"].to_pylist() == ["audio", "audio"]
        assert cache.failures["message"][0].as_py() == "bad: truncated"
        assert verify(writer.location) == []
        with pytest.raises(UnknownUtteranceError, match="bad: truncated"):
            cache["bad"]

    def test_an_utterance_good_in_another_unit_has_not_failed(self, writer: CacheWriter) -> None:
        """A second attempt in a unit of its own mends it."""
        writer.commit("u0", [], [sample_failed("a")], "x")
        self.fill(writer, {"u1": ["a"]})
        cache = open_cache(writer.location)
        assert cache.ids == ["a"]
        assert cache.failures.num_rows == 0

    def test_an_utterance_in_two_units_counts_once(self, writer: CacheWriter) -> None:
        """The unit whose name sorts first, whichever was committed first."""
        self.fill(writer, {"u1": ["a"]}, seed=1)
        self.fill(writer, {"u0": ["a", "b"]}, seed=0)
        cache = open_cache(writer.location)
        assert cache.ids == ["a", "b"]
        assert cache.catalogue["unit"][0].as_py() == "u0"
        assert_same_columns(cache.read_columns("a"), sample_packed(writer.spec, "a", 0).columns)

    def test_the_first_commit_of_a_unit_wins(self, writer: CacheWriter) -> None:
        """The second changes nothing, and says whose the visible one is."""
        first = writer.commit("u0", [sample_packed(writer.spec, "a", 0)], [], "first")
        second = writer.commit("u0", [sample_packed(writer.spec, "a", 1)], [], "second")
        assert (first.won, second.won, second.attempt) == (True, False, "first")
        assert second.bytes == first.bytes > 0
        columns = open_cache(writer.location).read_columns("a")
        assert_same_columns(columns, sample_packed(writer.spec, "a", 0).columns)

    def test_of_racing_writers_one_wins(self, path: str, spec: CacheSpec) -> None:
        """Equal and unequal contents, writers that open the cache at once."""

        def race(attempt: int) -> bool:
            writer = create_or_open(path, spec, self.layout, TOKENIZER_FILES)
            packed = [sample_packed(writer.spec, "a", attempt % 2)]
            return writer.commit("u0", packed, [], str(attempt)).won

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(race, range(6))) == [False] * 5 + [True]
        assert verify(path) == []
        assert len(open_cache(path)) == 1

    def test_opening_again_resumes(self, writer: CacheWriter, spec: CacheSpec) -> None:
        """With the same spec and layout, from any process."""
        self.fill(writer, {"u0": ["a"]})
        again = create_or_open(writer.location, spec, self.layout, TOKENIZER_FILES)
        assert again.committed_units() == {"u0"}
        assert again.layout == self.layout
        self.fill(open_for_write(writer.location), {"u1": ["b"]})
        assert again.committed_units() == {"u0", "u1"}

    def test_another_spec_or_layout_is_refused(self, writer: CacheWriter, spec: CacheSpec) -> None:
        """By the name of the first difference."""
        with pytest.raises(SpecMismatchError, match=r"targets\[0\]\.codec\.floor is 16\.0"):
            create_or_open(writer.location, sample_spec(floor=12), self.layout, TOKENIZER_FILES)
        other = {"zarr": "webdataset"}.get(self.layout, "zarr")
        with pytest.raises(SpecMismatchError, match=f"layout is '{self.layout}'"):
            create_or_open(writer.location, spec, other, TOKENIZER_FILES)

    def test_equal_input_gives_equal_bytes(
        self, places: Callable[[str], str], spec: CacheSpec
    ) -> None:
        """In every file."""
        found = []
        for name in ("one", "two"):
            writer = create_or_open(places(name), spec, self.layout, TOKENIZER_FILES)
            self.fill(writer, {"u0": ["a", *ODD_IDS]})
            found.append(contents(open_storage(places(name))))
        assert found[0] == found[1]

    def test_digest_is_of_the_content_alone(
        self, places: Callable[[str], str], spec: CacheSpec
    ) -> None:
        """Not of units, their order, or the order within."""
        plans = [{"u0": ["a", "b"], "u1": ["c"]}, {"x": ["c"], "w": ["b"], "v": ["a"]}]
        digests = []
        for index, plan in enumerate(plans):
            writer = create_or_open(places(str(index)), spec, self.layout, TOKENIZER_FILES)
            self.fill(writer, plan)
            writer.commit("failed", [], [sample_failed("f")], "x")
            digests.append(open_cache(writer.location).content_digest())
        assert digests[0] == digests[1]
        self.fill(writer, {"more": ["d"]})
        assert open_cache(writer.location).content_digest() != digests[0]

    def test_digest_follows_every_byte(self, places: Callable[[str], str], spec: CacheSpec) -> None:
        """Another array, another digest."""
        digests = set()
        for seed in range(3):
            writer = create_or_open(places(str(seed)), spec, self.layout, TOKENIZER_FILES)
            self.fill(writer, {"u0": ["a"]}, seed)
            digests.add(open_cache(writer.location).content_digest())
        assert len(digests) == 3

    def test_audio_comes_back(self, path: str) -> None:
        """As the FLAC file's bytes, where the cache keeps any."""
        writer = create_or_open(path, sample_spec(audio="flac"), self.layout, TOKENIZER_FILES)
        self.fill(writer, {"u0": ["a", "b"]})
        expected = sample_packed(writer.spec, "b").columns["audio"].tobytes()
        assert open_cache(path).audio("b") == expected

    def test_no_audio_is_said(self, writer: CacheWriter) -> None:
        """In one sentence."""
        self.fill(writer, {"u0": ["a"]})
        with pytest.raises(ConfigError, match="holds no audio"):
            open_cache(writer.location).audio("a")

    def test_optional_columns_may_be_missing(self, writer: CacheWriter) -> None:
        """In one utterance of a unit, or in all of another."""
        full, *others = (sample_packed(writer.spec, name) for name in ("a", "b", "c"))
        bare, lone = (without(item, "lattice.ids") for item in others)
        writer.commit("u0", [full, bare], [], "x")
        writer.commit("u1", [lone], [], "x")
        cache = open_cache(writer.location)
        assert cache.column_shapes("lattice.ids")[1:].tolist() == [[-1] * 3] * 2
        for item in (full, bare, lone):
            assert_same_columns(cache.read_columns(item.utterance.id), item.columns)
        assert verify(writer.location) == []

    def test_empty_arrays_come_back(self, writer: CacheWriter) -> None:
        """An utterance without a frame."""
        item = sample_packed(writer.spec, "a")
        item = replace(item, columns={**item.columns, "hidden.values": np.empty((0, 4), np.int8)})
        writer.commit("u0", [item], [], "x")
        assert open_cache(writer.location).read_columns("a")["hidden.values"].shape == (0, 4)
        assert verify(writer.location) == []

    def test_all_zero_columns_come_back(self, writer: CacheWriter) -> None:
        """A container may leave out what equals its fill value; this one must not."""
        item = sample_packed(writer.spec, "a")
        zeros = {name: np.zeros_like(array) for name, array in item.columns.items()}
        item = replace(item, columns=zeros)
        writer.commit("u0", [item], [], "x")
        assert_same_columns(open_cache(writer.location).read_columns("a"), item.columns)

    def test_unknown_names_are_said(self, writer: CacheWriter) -> None:
        """With the nearest that there are."""
        self.fill(writer, {"u0": ["utt-0001", "utt-0002"]})
        cache = open_cache(writer.location)
        with pytest.raises(UnknownUtteranceError, match="Nearest: 'utt-000"):
            cache["utt-0003"]
        with pytest.raises(UnknownUtteranceError, match="row 2"):
            cache.read_columns(2)
        with pytest.raises(ConfigError, match=r"Did you mean 'lattice\.logp'"):
            cache.read_columns(0, ["lattice.logits"])
        with pytest.raises(ConfigError, match="Did you mean 'lattice'"):
            cache.read_target(0, "latice")

    def test_wrong_columns_are_refused(self, writer: CacheWriter) -> None:
        """Missing, unknown, of another dtype, or an utterance twice; nothing is committed."""
        item = sample_packed(writer.spec, "a")
        values = item.columns["hidden.values"]
        for change in (
            {"hidden.values": values.astype(np.int16)},
            {"hidden.values": values[0]},
            {"unknown.values": values},
        ):
            wrong = replace(item, columns={**item.columns, **change})
            with pytest.raises(ConfigError, match="'a'"):
                writer.commit("u0", [wrong], [], "x")
        with pytest.raises(ConfigError, match="missing"):
            writer.commit("u0", [without(item, "hidden.scale")], [], "x")
        with pytest.raises(ConfigError, match="twice"):
            writer.commit("u0", [item, item], [], "x")
        assert writer.committed_units() == set()

    def test_a_damaged_utterance_is_named_and_others_read(
        self, writer: CacheWriter, files: Storage
    ) -> None:
        """And a target whose columns are sound is still read."""
        self.fill(writer, {"u0": ["a", "b"]})
        cache = open_cache(writer.location)
        row = cache.catalogue.slice(1, 1).to_pylist()[0]
        flip_bit(files, row["shard"], row["at.hidden.values"] * 8)
        cache = open_cache(writer.location)
        with pytest.raises(DamagedCacheError, match=r"'b', column hidden\.values in data/u0"):
            cache["b"]
        assert cache.read_target("b", "lattice") is not None
        assert cache["a"] is not None
        assert {(d.file, d.utterance) for d in verify(writer.location)} == {(row["shard"], "b")}

    def test_a_flipped_bit_is_found_in_every_file(
        self, writer: CacheWriter, files: Storage
    ) -> None:
        """One at a time, at places drawn at random, each put right again."""
        self.fill(writer, {"u0": ["a", "b"], "u1": ["c"]})
        writer.commit("u2", [], [sample_failed("f")], "x")
        rng = np.random.default_rng(0)
        for entry in files.entries():
            for _ in range(3):
                bit = int(rng.integers(entry.size * 8))
                flip_bit(files, entry.key, bit)
                found = {damage.file for damage in verify(writer.location)}
                assert entry.key in found, (entry.key, bit)
                flip_bit(files, entry.key, bit)
        assert verify(writer.location) == []

    def test_missing_and_cut_files_are_found(self, writer: CacheWriter, files: Storage) -> None:
        """And reading from them is an error, not a crash."""
        self.fill(writer, {"u0": ["a"], "u1": ["b"]})
        shards = [entry.key for entry in files.entries("data")]
        files.delete(shards[0])
        files.put(shards[1], files.read(shards[1])[:1000])
        assert {damage.file for damage in verify(writer.location)} == set(shards)
        cache = open_cache(writer.location)
        for utterance in ("a", "b"):
            with pytest.raises(DamagedCacheError, match="data/u"):
                cache[utterance]

    def test_garbage_is_no_damage_and_goes_after_its_grace(
        self, writer: CacheWriter, files: Storage
    ) -> None:
        """What is visible stays."""
        self.fill(writer, {"u0": ["a"]})
        for name in ("tmp/half.123", "data/u9-00.tar", "catalogue/u9-00.parquet"):
            files.put(name, b"left behind")
        assert verify(writer.location) == []
        assert len(find_garbage(writer.location)) == 3
        assert collect_garbage(writer.location, grace_seconds=3600) == []
        assert len(collect_garbage(writer.location, grace_seconds=0)) == 3
        assert find_garbage(writer.location) == []
        assert open_cache(writer.location)["a"] is not None

    def test_no_garbage_is_collected_blindly(self, writer: CacheWriter, files: Storage) -> None:
        """With a commit record that cannot be read, nobody knows what is garbage."""
        self.fill(writer, {"u0": ["a"]})
        flip_bit(files, "commits/u0.json", 100)
        with pytest.raises(DamagedCacheError):
            collect_garbage(writer.location, grace_seconds=0)
        assert len(files.entries("data")) == 1

    def test_threads_may_read_at_once(self, writer: CacheWriter) -> None:
        """While another commits and refreshes."""
        ids = [f"utt{i}" for i in range(8)]
        self.fill(writer, {"u0": ids[:4], "u1": ids[4:]})
        cache = open_cache(writer.location)

        def read(index: int) -> bool:
            utterance = ids[index % len(ids)]
            if index % 16 == 0:
                cache.refresh()
            expected = sample_packed(writer.spec, utterance).columns
            assert_same_columns(cache.read_columns(utterance), expected)
            return True

        with ThreadPoolExecutor(4) as pool:
            done = pool.map(read, range(64))
            self.fill(writer, {"u2": ["later"]})
            assert all(done)

    def test_a_cache_travels_as_its_path(self, writer: CacheWriter) -> None:
        """To another process, as Ray's workers need."""
        self.fill(writer, {"u0": ["a"]})
        again = pickle.loads(pickle.dumps(open_cache(writer.location)))
        assert isinstance(again, Cache)
        assert again.ids == ["a"]

    def test_what_is_no_cache_is_refused(
        self, places: Callable[[str], str], spec: CacheSpec
    ) -> None:
        """Missing, or a place that something else is in."""
        open_storage(places("full")).put("thesis.tex", b"text")
        for name in ("missing", "full", "full/thesis.tex"):
            with pytest.raises(NotACacheError, match=r"kdcache\.json"):
                open_cache(places(name))
            with pytest.raises(NotACacheError):
                verify(places(name))
        with pytest.raises(NotACacheError, match=r"thesis\.tex"):
            create_or_open(places("full"), spec, self.layout, TOKENIZER_FILES)


def without(item: PackedUtterance, column: str) -> PackedUtterance:
    """The utterance less one column."""
    return replace(item, columns={n: a for n, a in item.columns.items() if n != column})


def assert_same_columns(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> None:
    """Same names, dtypes, shapes and bytes."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def contents(files: Storage) -> dict[str, bytes]:
    """Every file of a storage, by key."""
    return {entry.key: files.read(entry.key) for entry in files.entries()}


def flip_bit(files: Storage, key: str, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(files.read(key))
    data[bit // 8] ^= 1 << bit % 8
    files.put(key, bytes(data))
