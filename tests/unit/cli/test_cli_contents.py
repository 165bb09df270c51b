"""ls, cat and export: what they write is what the cache holds, in every form."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.codec import records
from kdcache.inspect.arrays import DECODED, Arrays
from kdcache.store import create_or_open, open_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from kdcache.store import Cache


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def written(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def kdcache(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell, in which kdcache is a command."""
    script = f'kdcache() {{ "{sys.executable}" -m kdcache "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


# ls


def test_ids_one_a_line(cache: Path) -> None:
    assert written("ls", cache).stdout == "a\nb\nc\n"
    assert written("ls", cache, "--where", "kl > 0.3").stdout == "b\nc\n"
    assert written("ls", cache, "--where", "duration > 99").stdout == ""


def test_fields_with_tabs_between(cache: Path) -> None:
    lines = written("ls", cache, "--fields", "id,duration, labels,kl,text").stdout.splitlines()
    assert lines[0] == "a\t1.8\t2\t0.25\tsay a"


def test_json_lines(cache: Path) -> None:
    lines = written("ls", cache, "--fields", "id,kl", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": name, "lattice.kl_mean": kl} for name, kl in (("a", 0.25), ("b", 0.5), ("c", 0.75))
    ]


def test_an_unknown_field(cache: Path) -> None:
    result = run("ls", cache, "--fields", "id,durtion")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Did you mean 'duration'?" in result.stderr


def test_a_pipe_that_is_closed_early(tmp_path: Path) -> None:
    writer = create_or_open(tmp_path / "cache", sample_spec(), "webdataset", TOKENIZER_FILES)
    item = sample_packed(writer.spec, "a")
    many = [
        replace(item, utterance=replace(item.utterance, id=f"{'long' * 40}-{n:04d}"))
        for n in range(1000)
    ]
    writer.commit("u0", many, [], "test")
    done = kdcache(f"kdcache ls {tmp_path / 'cache'} | head -n 1")
    assert done.stdout == f"{'long' * 40}-0000\n"
    assert done.stderr == ""
    assert done.returncode == 141
    assert (
        kdcache(f"kdcache cat {tmp_path / 'cache'} {many[0].utterance.id} | head -c 5").stderr == ""
    )


# cat


def same(found: dict[str, object], cache: Cache, name: str) -> None:
    """JSON holds the arrays of the cache, to the last bit."""
    arrays = Arrays(cache).read(name)
    assert found.keys() == {"id", *arrays}
    for key, array in arrays.items():
        back = np.array(found[key], dtype=object)
        back[back == None] = -np.inf  # noqa: E711
        np.testing.assert_array_equal(back.astype(array.dtype), array)


def test_arrays_as_json(cache: Path) -> None:
    lines = written("cat", cache, "a", "c").stdout.splitlines()
    opened = open_cache(cache)
    for line, name in zip(lines, ("a", "c"), strict=True):
        found = json.loads(line)
        assert found["id"] == name
        same(found, opened, name)


def test_decoded_arrays_are_those_of_the_records(cache: Path) -> None:
    record = open_cache(cache)["a"]["lattice"]
    found = json.loads(written("cat", cache, "a", "--target", "lattice").stdout)
    assert found.keys() == {"id", "lattice.logp", "lattice.ids"}
    assert isinstance(record, records.LatticeRecord)
    assert np.array(found["lattice.ids"]).tolist() == record.ids_TSK.tolist()


def test_packed_arrays_are_those_that_are_stored(cache: Path) -> None:
    found = json.loads(written("cat", cache, "a", "--packed").stdout)
    stored = open_cache(cache).read_columns("a")
    assert found.keys() == {"id", *stored}
    assert found["lattice.logp"] == stored["lattice.logp"].tolist()


@pytest.mark.parametrize("packed", [(), ("--packed",)])
def test_arrays_as_npz(cache: Path, tmp_path: Path, packed: tuple[str, ...]) -> None:
    out = tmp_path / "out.npz"
    written("cat", cache, "a", "b", "--format", "npz", "--out", out, *packed)
    arrays = Arrays(open_cache(cache), packed=bool(packed))
    with np.load(out, allow_pickle=False) as found:
        assert set(found) == {f"{key}/{name}" for key in "ab" for name in arrays.read(key)}
        for key in "ab":
            for name, array in arrays.read(key).items():
                np.testing.assert_array_equal(found[f"{key}/{name}"], array)
    first = out.read_bytes()
    written("cat", cache, "a", "b", "--format", "npz", "--out", out, *packed)
    assert out.read_bytes() == first


def check_table(table: pa.Table, arrays: Arrays, ids: list[str]) -> None:
    assert table["id"].to_pylist() == ids
    assert table["text"].to_pylist() == [f"say {name}" for name in ids]
    for row in table.to_pylist():
        expected = arrays.read(row["id"])
        for name, dtype in arrays.types.items():
            if name in expected:
                back = np.array(row[name], dtype).reshape(row[f"{name}.shape"])
                np.testing.assert_array_equal(back, expected[name])
            else:
                assert row[name] is row[f"{name}.shape"] is None


@pytest.mark.parametrize("packed", [(), ("--packed",)])
def test_arrays_as_arrow(cache: Path, packed: tuple[str, ...]) -> None:
    stream = written("cat", cache, "c", "a", "--format", "arrow", *packed).stdout_bytes
    table = pa.ipc.open_stream(io.BytesIO(stream)).read_all()
    check_table(table, Arrays(open_cache(cache), packed=bool(packed)), ["c", "a"])


def test_an_unknown_id_or_target(cache: Path) -> None:
    result = run("cat", cache, "a", "aa")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no utterance 'aa'" in result.stderr
    assert "Nearest: 'a'" in result.stderr
    result = run("cat", cache, "a", "--target", "latice")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Did you mean 'lattice'?" in result.stderr


def test_every_record_s_arrays_are_named() -> None:
    kinds = {
        "lattice": records.LatticeRecord,
        "posterior": records.PosteriorRecord,
        "vector": records.VectorRecord,
        "score": records.ScoreRecord,
        "hypotheses": records.HypothesesRecord,
    }
    assert DECODED.keys() == kinds.keys()
    for name, kind in kinds.items():
        attributes = {field.name for field in fields(kind)} - {"tail"}
        assert {attribute for attribute, _ in DECODED[name].values()} == attributes


def test_json_to_a_file(cache: Path, tmp_path: Path) -> None:
    written("cat", cache, "a", "--out", tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == run("cat", cache, "a").stdout


# Completion


def test_commands_and_options_are_completed() -> None:
    said = kdcache("kdcache", _KDCACHE_COMPLETE="bash_complete", COMP_WORDS="kdcache ins",
                   COMP_CWORD="1").stdout  # fmt: skip
    assert said == "plain,inspect\n"
    said = kdcache("kdcache", _KDCACHE_COMPLETE="bash_complete",
                   COMP_WORDS="kdcache inspect x --so", COMP_CWORD="3").stdout  # fmt: skip
    assert said == "plain,--sort\n"
    assert "_kdcache_completion" in kdcache("kdcache", _KDCACHE_COMPLETE="zsh_source").stdout


# export


def test_parquet(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    result = written("export", cache, out, "--where", "kl > 0.3")
    assert result.stdout == ""
    assert result.stderr == f"{out}: 2 of 3 utterances\n"
    check_table(pq.read_table(out), Arrays(open_cache(cache)), ["b", "c"])
    assert pq.read_table(out)["tokens"].to_pylist() == [[7, 9], [7, 9]]


def test_more_than_a_row_group(tmp_path: Path) -> None:
    writer = create_or_open(tmp_path / "cache", sample_spec(), "zarr", TOKENIZER_FILES)
    items = [sample_packed(writer.spec, f"u{n:02d}") for n in range(35)]
    writer.commit("u0", items, [], "test")
    written("export", tmp_path / "cache", tmp_path / "out.parquet", "--target", "hidden")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == [f"u{n:02d}" for n in range(35)]
    assert table["hidden.codes"].null_count == 35
    record = open_cache(tmp_path / "cache").read_target("u34", "hidden")
    assert isinstance(record, records.VectorRecord)
    assert table["hidden.values"][34].as_py() == record.values_TD.reshape(-1).tolist()
