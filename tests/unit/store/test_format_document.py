"""Every example of docs/format.md runs as it stands, and the first one without kdcache."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdcache.codec import LatticeRecord
from kdcache.store import CacheSpec, PackedUtterance, create_or_open, open_cache
from kdcache.testing.records import random_band
from kdcache.testing.samples import TOKENIZER_FILES, sample_failed, sample_packed, sample_spec

DOCUMENT = Path(__file__).parents[3] / "docs" / "format.md"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("format")
    for name, layout in (
        ("cache", "zarr"),
        ("cache-zarr", "zarr"),
        ("cache-webdataset", "webdataset"),
    ):
        writer = create_or_open(directory / "runs" / name, sample_spec(), layout, TOKENIZER_FILES)
        for unit in ("u0", "u1"):
            packed = [sample_packed(writer.spec, f"{unit}-{i}") for i in range(2)]
            if unit == "u0":
                packed[0] = banded(writer.spec, packed[0])
            writer.commit(unit, packed, [sample_failed(f"{unit}-bad")], "x")
    return directory


def banded(spec: CacheSpec, item: PackedUtterance) -> PackedUtterance:
    """The utterance with a band of a lattice."""
    arrays = spec.codec("lattice").encode(random_band(np.random.default_rng(3)))
    columns = {f"lattice.{name}": array for name, array in arrays.items()}
    return replace(item, columns={**item.columns, **columns})


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)


def run(code: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_numpy_and_pyarrow_are_enough(directory: Path) -> None:
    check = (
        "import sys\nassert not {'kdcache', 'torch', 'zarr', 'webdataset'} & sys.modules.keys()\n"
        "np.savez('decoded.npz', logp=logp, starts=starts)\n"
    )
    cache = open_cache(directory / "runs" / "cache")
    for name in ("u0-0", "u0-1"):
        printed = run(blocks()[0].replace("sorted(rows)[0]", repr(name)) + check, directory)
        decoded, expected = np.load(directory / "decoded.npz"), cache[name]["lattice"]
        assert isinstance(expected, LatticeRecord)
        assert (expected.starts_T is not None) == (name == "u0-0")
        assert name in printed
        assert decoded["logp"].shape == expected.logp_TSC.shape
        assert np.allclose(decoded["logp"], expected.logp_TSC, atol=1e-5)
        starts = expected.starts_T
        starts = np.zeros(len(expected.logp_TSC)) if starts is None else starts
        assert np.array_equal(decoded["starts"], starts)


def test_the_first_example_reads_both_layouts(directory: Path) -> None:
    zarr = run(blocks()[0], directory)
    webdataset = run(blocks()[0].replace("runs/cache", "runs/cache-webdataset"), directory)
    assert zarr == webdataset != ""


@pytest.mark.parametrize(("block", "expected"), [(1, "text of u"), (2, "u0-0")])
def test_stock_libraries_read_the_shards(
    directory: Path,
    block: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(directory)
    exec(blocks()[block].replace('glob("*', 'glob("u0-*'), {"Path": Path})
    assert expected in capsys.readouterr().out


def test_every_built_in_codec_is_described() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(
        f"`{name}`" in text
        for name in ("fp16", "log8", "int8", "root", "count", "fp32", "codebooks")
    )
    assert len(blocks()) == 3
