"""Codecs and stores need no torch, no Ray, and open without zarr."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from kdcache.store import create_or_open
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from pathlib import Path


def modules_after(code: str) -> set[str]:
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_codec_is_numpy_alone() -> None:
    found = modules_after("import kdcache.codec, kdcache.codec.registry")
    assert "numpy" in found
    assert not found & {"torch", "ray", "pyarrow", "zarr", "transformers"}


def test_reading_and_verifying_need_no_torch_and_no_container_library(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    writer = create_or_open(path, sample_spec(), "zarr", TOKENIZER_FILES)
    writer.commit("u0", [sample_packed(writer.spec, "a")], [], "x")
    found = modules_after(
        "import kdcache.store, kdcache.inspect.summary\n"
        f"cache = kdcache.store.open_cache({str(path)!r})\n"
        "cache['a']; kdcache.inspect.summary.summarise(cache)\n"
        f"assert kdcache.store.verify({str(path)!r}) == []"
    )
    assert "pyarrow" in found
    assert not found & {"torch", "ray", "zarr", "webdataset", "transformers"}


def test_writing_needs_no_torch(tmp_path: Path) -> None:
    root = str(tmp_path)
    found = modules_after(
        "from kdcache.store import create_or_open\n"
        "from kdcache.testing.samples import *\n"
        "for layout in ('zarr', 'webdataset'):\n"
        f"    writer = create_or_open({root!r} + '/' + layout, sample_spec(), layout, {{}})\n"
        "    writer.commit('u0', [sample_packed(writer.spec, 'a')], [], 'x')"
    )
    assert "zarr" in found
    assert not found & {"torch", "ray", "webdataset", "transformers"}
