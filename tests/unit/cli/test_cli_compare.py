"""compare on the command line: a table, JSON, and one sentence for what does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.store import convert, create_or_open
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def packed_again(cache: Path) -> Path:
    """A copy whose frames take a byte a class, where half precision took two."""
    path = cache.parent / "again"
    convert(cache, path, codecs={"ctc": {"name": "log8"}})
    return path


def test_a_table_on_stdout_and_no_progress_where_there_is_no_terminal(cache: Path) -> None:
    result = run(cache, packed_again(cache))
    assert result.exit_code == 0, result.output
    assert "in common     3 utterances" in result.stdout
    assert "target lattice" in result.stdout
    assert "target ctc" in result.stdout
    assert "nats per node" in result.stdout
    assert max(map(len, result.stdout.splitlines()[2:])) <= 100
    assert result.stderr == ""


def test_json(cache: Path) -> None:
    found = json.loads(run(cache, packed_again(cache), "--utterances", 2, "--json").stdout)
    assert (found["utterances"]["common"], found["utterances"]["compared"]) == (3, 2)
    lattice, ctc = found["targets"]
    assert lattice["figures"]["rows"] == 2 * 5 * 3
    assert (ctc["row"], ctc["figures"]["rows"], ctc["figures"]["infinite"]) == ("frame", 10, 0)
    assert 0 < ctc["figures"]["mean"] < ctc["figures"]["max"] < 0.01
    assert [item["id"] for item in ctc["utterances"]] == ["a", "c"]
    rates = [found[side]["targets"][1]["bytes_per_hour"] for side in "ab"]
    assert rates[0] > rates[1] > 0


def test_best_paths_and_as_many_of_the_worst_as_asked_for(cache: Path) -> None:
    other = packed_again(cache)
    lines = run(cache, other, "--top", 1).stdout.splitlines()
    assert any("best paths" in line and "of 3 utterances" in line for line in lines)
    (ctc_at,) = [at for at, line in enumerate(lines) if line == "target ctc"]
    assert sum(line.endswith(" labels") for line in lines[ctc_at:]) == 1
    lattice, ctc = json.loads(run(cache, other, "--json").stdout)["targets"]
    assert lattice["paths"]["labels"] == 6
    assert lattice["paths"]["seconds"] == 0.0
    assert ctc["paths"]["seconds"] is None
    assert [item["paths"]["utterances"] for item in ctc["utterances"]] == [1, 1, 1]


def test_what_is_no_cache_is_bad_input(cache: Path, tmp_path: Path) -> None:
    result = run(cache, tmp_path / "nothing")
    assert result.exit_code == 2
    assert result.stdout == ""


def test_nothing_in_common_is_one_sentence(cache: Path, tmp_path: Path) -> None:
    spec = sample_spec()
    other = create_or_open(tmp_path / "other", spec, "zarr", TOKENIZER_FILES)
    other.commit("u0", [sample_packed(spec, "elsewhere")], [], "first")
    result = run(cache, tmp_path / "other")
    assert result.exit_code == 2
    assert "none in common" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_no_sample_is_bad_usage(cache: Path) -> None:
    assert run(cache, cache, "--utterances", 0).exit_code == 2


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, kdcache.cli.compare, kdcache.inspect.compare, kdcache.inspect.compare_text;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
