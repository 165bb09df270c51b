"""Every example of docs/format.md runs as it stands, and the first one without kdcache."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdcache.store import create_or_open, open_cache
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
            writer.commit(unit, packed, [sample_failed(f"{unit}-bad")], "x")
    return directory


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
        "np.save('decoded.npy', logp)\n"
    )
    printed = run(blocks()[0] + check, directory)
    cache = open_cache(directory / "runs" / "cache")
    decoded = np.load(directory / "decoded.npy")
    expected = cache["u0-0"]["lattice"].logp_TUC
    assert "u0-0" in printed
    assert decoded.shape == expected.shape
    assert np.allclose(decoded, expected, atol=1e-5)


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
    assert all(f"`{name}`" in text for name in ("fp16", "log8", "int8", "root", "count"))
    assert len(blocks()) == 3
