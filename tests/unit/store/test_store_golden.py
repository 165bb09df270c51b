"""Caches that the first release wrote, and what they must decode to for ever.

``tests/data/golden/`` holds a cache in each layout, and ``decoded.npz`` with every array that
was decoded from them when they were made. To write them again would defeat their purpose: a
test that fails here says that today's code no longer reads yesterday's caches.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.store import convert, open_cache, open_for_write, verify
from kdcache.testing.samples import sample_packed

if TYPE_CHECKING:
    from pathlib import Path

RENAMED = {"logp_TUC": "logp_TSC", "ids_TUK": "ids_TSK"}
"""Arrays that are called otherwise than when ``decoded.npz`` was written."""
DIGEST = "7c62e5d5b36d232e34398ba15c7991b356a7cdd434da720bd734c4bfdd267226"


@pytest.fixture(params=["zarr", "webdataset"])
def golden(request: pytest.FixtureRequest, repository: Path) -> Path:
    return repository / "tests" / "data" / "golden" / str(request.param)


@pytest.fixture(scope="module")
def decoded(repository: Path) -> dict[str, np.ndarray]:
    with np.load(repository / "tests" / "data" / "golden" / "decoded.npz") as arrays:
        return dict(arrays)


def test_it_is_sound_and_has_its_digest(golden: Path) -> None:
    assert verify(golden) == []
    cache = open_cache(golden)
    assert cache.content_digest() == DIGEST
    assert cache.spec.format_version == 1
    assert cache.layout == golden.name


def test_its_catalogue_says_what_it_said(golden: Path) -> None:
    cache = open_cache(golden)
    assert cache.ids == ["a/1.wav", "b", "ü"]
    row = cache.catalogue.slice(1, 1).to_pylist()[0]
    assert (row["text"], row["speaker"], row["unit"]) == ("text of b", "s1", "u0")
    assert len(row["tokens"]) == 5
    assert row["fidelity.lattice.kl_max"] == np.float32(0.01)
    assert cache.failures["message"].to_pylist() == ["bad: truncated"]
    assert (cache.tokenizer_dir / "vocab.txt").read_bytes() == b"<blk>\na\nb\n"
    assert cache.audio("b").startswith(b"fLaC")


def test_it_decodes_to_what_it_decoded_to(golden: Path, decoded: dict[str, np.ndarray]) -> None:
    cache = open_cache(golden)
    for key, expected in decoded.items():
        utterance, target, name = key.rsplit("|", 2)
        found = getattr(cache.read_target(utterance, target), RENAMED.get(name, name))
        assert found.dtype == expected.dtype, key
        assert np.allclose(found, expected, rtol=0, atol=1e-6), key
    assert len(decoded) == 3 * 5


def test_it_can_be_written_to(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden, tmp_path / "cache")
    writer = open_for_write(tmp_path / "cache")
    assert writer.commit("u9", [sample_packed(writer.spec, "new")], [], "x").won
    assert verify(tmp_path / "cache") == []
    assert len(open_cache(tmp_path / "cache")) == 4


def test_it_can_be_converted(golden: Path, tmp_path: Path) -> None:
    other = {"zarr": "webdataset", "webdataset": "zarr"}[golden.name]
    assert convert(golden, tmp_path / "there", other).content_digest == DIGEST
