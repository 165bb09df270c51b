"""Conversion copies every byte, resumes after anything, and is honest about what it loses."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdcache.codec import LatticeRecord, PosteriorRecord, VectorRecord, make_codec
from kdcache.errors import ConfigError, DamagedCacheError, SpecMismatchError
from kdcache.store import convert, create_or_open, open_cache, open_for_write, verify
from kdcache.store.places import open_storage
from kdcache.store.recode import recoding_loss
from kdcache.testing.records import records
from kdcache.testing.samples import (
    TOKENIZER_FILES,
    sample_failed,
    sample_packed,
    sample_spec,
)
from kdcache.testing.store_contract import contents, flip_bit
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS = ["zarr", "webdataset"]
OTHER = {"zarr": "webdataset", "webdataset": "zarr"}


def fill(path: Path, layout: str, units: int = 3, *, audio: str = "none") -> Path:
    writer = create_or_open(path, sample_spec(audio=audio), layout, TOKENIZER_FILES)
    for unit in range(units):
        packed = [sample_packed(writer.spec, f"{unit}-{i}") for i in range(3)]
        writer.commit(f"u{unit}", packed, [sample_failed(f"{unit}-bad")], "x")
    return path


@pytest.fixture(scope="module", params=LAYOUTS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("source") / "cache", request.param, audio="flac")


# Layouts and shards


def test_another_layout_has_the_same_content(source: Path, tmp_path: Path) -> None:
    before = open_cache(source)
    report = convert(source, tmp_path / "there", OTHER[before.layout])
    made = open_cache(tmp_path / "there")
    assert made.layout == report.layout == OTHER[before.layout]
    assert made.content_digest() == before.content_digest() == report.content_digest
    assert (report.utterances, report.failed, report.units) == (9, 3, 3)
    assert report.target_bytes == made.nbytes
    assert made.units == before.units
    for utterance in before:
        for name, array in before.read_columns(utterance).items():
            assert made.read_columns(utterance)[name].tobytes() == array.tobytes()
    keep = [n for n in before.catalogue.column_names if not n.startswith("at.") and n != "shard"]
    assert made.catalogue.select(keep).equals(before.catalogue.select(keep))
    assert made.failures.equals(before.failures)
    assert verify(tmp_path / "there") == []
    tokenizer = {f.name: f.read_bytes() for f in made.tokenizer_dir.iterdir()}
    assert tokenizer == TOKENIZER_FILES


def test_there_and_back_gives_the_same_files(source: Path, tmp_path: Path) -> None:
    layout = open_cache(source).layout
    convert(source, tmp_path / "there", OTHER[layout])
    convert(tmp_path / "there", tmp_path / "back", layout)
    first, last = contents(open_storage(source)), contents(open_storage(tmp_path / "back"))
    assert first.keys() == last.keys()
    changed = {name for name in first if first[name] != last[name]}
    assert changed == {f"commits/u{unit}.json" for unit in range(3)}, "attempts alone differ"


@pytest.mark.parametrize("size", [1, 5, 100])
def test_shards_are_cut_anew(source: Path, tmp_path: Path, size: int) -> None:
    report = convert(source, tmp_path / "there", unit_utterances=size)
    assert report.units == -(-12 // size)
    assert report.content_digest == open_cache(source).content_digest()
    assert report.layout == open_cache(source).layout
    again = convert(source, tmp_path / "there", unit_utterances=size)
    assert again == report


def test_a_row_that_does_not_count_is_left_out(tmp_path: Path) -> None:
    writer = open_for_write(fill(tmp_path / "cache", "webdataset", 1))
    writer.commit("u1", [sample_packed(writer.spec, "0-0", 7)], [sample_failed("0-1")], "x")
    writer.commit("u2", [sample_packed(writer.spec, "0-bad")], [], "x")
    report = convert(tmp_path / "cache", tmp_path / "there")
    assert (report.utterances, report.failed, report.units) == (4, 0, 2)
    assert report.content_digest == open_cache(tmp_path / "cache").content_digest()


def test_from_and_to_an_object_store(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="object stores need obstore")
    url = f"memory://convert/{tmp_path.name}-{time.time_ns()}"
    layout = open_cache(source).layout
    convert(source, url, OTHER[layout])
    report = convert(url, tmp_path / "back", layout, unit_utterances=2)
    assert report.content_digest == open_cache(source).content_digest()


def test_a_codec_that_cannot_be_imported_is_copied_all_the_same(tmp_path: Path) -> None:
    """Copying needs no codec, so nothing that a cache names is imported."""
    spec, header = sample_spec(), "kdcache.json"
    fill(tmp_path / "cache", "webdataset", 1)
    files = open_storage(tmp_path / "cache")
    from kdcache.store.header import Header

    strange = TargetSpec("lattice", "lattice", "lattice", {}, {"name": "no_such_module:Codec"})
    targets = (strange, *spec.targets[1:])
    made = Header.from_bytes(files.read(header))
    made = replace(made, spec=replace(spec, targets=targets))
    files.put(header, made.to_bytes())
    commit = files.read("commits/u0.json").decode()
    from kdcache.store.seal import seal, unseal

    value = unseal(commit.encode(), "")
    files.put("commits/u0.json", seal({**value, "spec_hash": made.spec.spec_hash}))
    report = convert(tmp_path / "cache", tmp_path / "there", "zarr")
    assert report.content_digest == open_cache(tmp_path / "cache").content_digest()
    with pytest.raises(ConfigError, match="not imported unasked"):
        convert(tmp_path / "cache", tmp_path / "x", codecs={"lattice": {"name": "fp16"}})


# Resuming, and what cannot be


def test_what_is_done_is_not_done_again(source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    convert(source, tmp_path / "there", progress=lambda *counts: told.append(counts))
    assert told == [(0, 12), (4, 12), (8, 12), (12, 12)]
    (tmp_path / "there" / "commits" / "u1.json").unlink()
    written = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "there" / "commits").iterdir()}
    told.clear()
    convert(source, tmp_path / "there", progress=lambda *counts: told.append(counts))
    assert told == [(8, 12), (12, 12)]
    after = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "there" / "commits").iterdir()}
    assert {name: after[name] for name in written} == written


def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    fill(tmp_path / "cache", "webdataset", 30)
    code = (
        "import sys\nfrom kdcache.store import convert\nprint('ready', flush=True)\n"
        "convert(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), str(tmp_path / "there")]
    for seconds in (0.01, 0.05, 0.12):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (tmp_path / "there" / "kdcache.json").exists():
            assert verify(tmp_path / "there") == []
    report = convert(tmp_path / "cache", tmp_path / "there")
    assert report.content_digest == open_cache(tmp_path / "cache").content_digest()
    assert report.units == 30


def test_a_damaged_source_is_found_on_the_way(source: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(source, tmp_path / "cache")
    row = open_cache(source).catalogue.slice(4, 1).to_pylist()[0]
    flip_bit(open_storage(tmp_path / "cache"), row["shard"], 8 * row["at.hidden.values"])
    with pytest.raises(DamagedCacheError, match=row["id"]):
        convert(tmp_path / "cache", tmp_path / "there")
    assert open_cache(tmp_path / "there").units == ["u0"]


def test_the_target_must_be_new_or_its_own(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="into itself"):
        convert(source, source / ".." / source.name)
    convert(source, tmp_path / "there", unit_utterances=5)
    with pytest.raises(SpecMismatchError, match="does not make"):
        convert(source, tmp_path / "there")
    with pytest.raises(SpecMismatchError, match="layout"):
        convert(source, tmp_path / "there", OTHER[open_cache(source).layout], unit_utterances=5)
    with pytest.raises(ConfigError, match="Did you mean 'lattice'"):
        convert(source, tmp_path / "x", codecs={"latice": {"name": "fp16"}})
    with pytest.raises(ConfigError, match="no setting 'flor'"):
        convert(source, tmp_path / "x", codecs={"lattice": {"name": "log8", "flor": 3}})
    assert not (tmp_path / "x").exists()


def test_units_of_the_same_name_with_other_content_are_noticed(tmp_path: Path) -> None:
    fill(tmp_path / "cache", "webdataset", 1)
    writer = create_or_open(tmp_path / "there", sample_spec(), "webdataset", TOKENIZER_FILES)
    writer.commit("u0", [sample_packed(writer.spec, "0-0", seed=5)], [], "x")
    with pytest.raises(DamagedCacheError, match="does not hold the same"):
        convert(tmp_path / "cache", tmp_path / "there")


# Codecs


def test_another_codec_for_one_target(source: Path, tmp_path: Path) -> None:
    before = open_cache(source)
    codec = {"name": "log8", "floor": 6.0}
    report = convert(source, tmp_path / "there", codecs={"lattice": codec})
    made = open_cache(tmp_path / "there")
    assert report.recoded == ("lattice",)
    assert made.spec.target("lattice").codec == make_codec("lattice", codec).to_dict()
    assert made.content_digest() != before.content_digest()
    assert verify(tmp_path / "there") == []
    assert made.ids == before.ids
    for utterance in made:
        given, found = (cache.read_target(utterance, "lattice") for cache in (before, made))
        packed = made.codec("lattice").encode(given)
        assert isinstance(found, LatticeRecord)
        expected = made.codec("lattice").decode(packed)
        assert isinstance(expected, LatticeRecord)
        assert np.array_equal(found.logp_TSC, expected.logp_TSC)
        for name in ("hidden.values", "hidden.scale", "encoder_logits.logp", "audio"):
            assert np.array_equal(
                before.read_columns(utterance)[name], made.read_columns(utterance)[name]
            )
    assert convert(source, tmp_path / "there", codecs={"lattice": codec}) == report


def test_both_losses_are_told_apart(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "there", codecs={"lattice": {"name": "log8", "floor": 6.0}})
    before, made = open_cache(source), open_cache(tmp_path / "there")
    names = {n for n in made.catalogue.column_names if n.startswith("fidelity.")}
    assert names == {
        f"fidelity.lattice.{measure}"
        for measure in ("source_kl_max", "source_kl_mean", "recode_kl_max", "recode_kl_mean")
    }
    old = before.catalogue["fidelity.lattice.kl_mean"]
    assert made.catalogue["fidelity.lattice.source_kl_mean"].equals(old)
    for row, utterance in enumerate(made.ids):
        lost = recoding_loss(
            before.read_target(utterance, "lattice"), made.read_target(utterance, "lattice")
        )
        stored = made.catalogue["fidelity.lattice.recode_kl_mean"][row].as_py()
        assert stored == np.float32(lost["kl_mean"])
        assert stored > 0


def test_the_same_codec_is_no_recoding(source: Path, tmp_path: Path) -> None:
    same = {"lattice": {"name": "log8", "floor": 16.0}}
    report = convert(source, tmp_path / "there", codecs=same)
    assert report.recoded == ()
    assert report.content_digest == open_cache(source).content_digest()


def test_a_vector_s_loss_is_its_error(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "there", codecs={"hidden": {"name": "fp16"}})
    made, before = open_cache(tmp_path / "there"), open_cache(source)
    assert "hidden.scale" not in made.columns
    given, found = (c.read_target("0-0", "hidden") for c in (before, made))
    assert isinstance(given, VectorRecord)
    assert isinstance(found, VectorRecord)
    error = np.abs(given.values_TD.astype(np.float64) - found.values_TD)
    stored = made.catalogue["fidelity.hidden.recode_error_max"][0].as_py()
    assert stored == np.float32(error.max())


@pytest.mark.parametrize(
    ("kind", "codec"), [("lattice", "log8"), ("posterior", "fp16"), ("vector", "int8")]
)
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_loss_of_any_record_is_a_number(kind: str, codec: str, data: st.DataObject) -> None:
    record, packer = data.draw(records(kind)), make_codec(kind, {"name": codec})
    lost = recoding_loss(record, packer.decode(packer.encode(record)))
    assert all(value >= 0 and not np.isnan(value) for value in lost.values())
    assert all(
        lost[f"{n}_mean"] <= lost[f"{n}_max"] + 1e-12
        for n in ("kl", "error")
        if lost.get(f"{n}_max")
    )
    same = recoding_loss(record, record)
    assert all(value < 1e-12 for value in same.values())
    assert len(same) == 2


def test_classes_in_other_places_are_not_compared() -> None:
    logp_NC = np.log(np.array([[0.6, 0.3, 0.1]], np.float32))
    one = PosteriorRecord(logp_NC, np.array([[3, 4]], np.int32))
    other = PosteriorRecord(logp_NC, np.array([[4, 3]], np.int32))
    assert recoding_loss(one, other) == {}
