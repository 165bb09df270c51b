"""A band from the teacher to the student: extracted, shown, verified, streamed and learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kdcache.codec import LatticeRecord
from kdcache.corpus import load_tokenizer
from kdcache.extract import ExtractConfig
from kdcache.inspect.summary import summarise
from kdcache.inspect.text import summary_lines
from kdcache.store import convert, open_cache, verify
from kdcache.testing.small_teachers import save_small_transducer
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World
from tests.unit.extract.extract_fakes import extract_here

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Cache

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
         "subsampling_channels": 4}  # fmt: skip


@pytest.fixture(scope="module")
def caches(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    """The tones, by a random teacher with their tokenizer: whole and in two sorts of band."""
    folder = tmp_path_factory.mktemp("work")
    teacher = save_small_transducer(folder / "teacher", load_tokenizer(tones / "tokenizer"))
    bands: dict[str, dict[str, Any]] = {
        "whole": {},
        "epsilon": {"epsilon": 0.2},
        "width": {"width": 3},
    }
    return {
        name: extract_here(
            ExtractConfig.model_validate(
                {
                    "teacher": {"path": teacher, "device": "cpu"},
                    "corpus": tones / "train.jsonl",
                    "cache": {"path": str(folder / name)},
                    "targets": [{"kind": "lattice", **band}],
                }
            )
        )
        for name, band in bands.items()
    }


def lattice_of(cache: Cache, key: str) -> LatticeRecord:
    record = cache[key]["lattice"]
    assert isinstance(record, LatticeRecord)
    return record


def test_bands_are_parts_of_the_whole(caches: dict[str, Cache]) -> None:
    outside = {}
    for name in ("epsilon", "width"):
        cache = caches[name]
        rows = cache.catalogue.to_pylist()
        outside[name] = [row["fidelity.lattice.band_outside"] for row in rows]
        for row in rows:
            whole, band = lattice_of(caches["whole"], row["id"]), lattice_of(cache, row["id"])
            assert band.labels == whole.labels == len(row["tokens"])
            assert band.starts_T is not None
            width = band.logp_TSC.shape[1]
            assert width < whole.labels + 1
            for t, start in enumerate(band.starts_T):
                expected = whole.logp_TSC[t, start : start + width]
                np.testing.assert_allclose(band.logp_TSC[t], expected, atol=0.2)
        assert verify(cache.path) == []
    assert max(outside["epsilon"]) <= 0.2 < max(outside["width"])


def test_a_band_is_smaller_and_says_what_it_left_out(caches: dict[str, Cache]) -> None:
    whole, band = (summarise(caches[name]) for name in ("whole", "width"))
    assert band.targets[0].bytes < 0.5 * whole.targets[0].bytes
    assert 0 < band.targets[0].fidelity["band_outside"] < 1
    assert "band_outside" not in whole.targets[0].fidelity
    text = "\n".join(summary_lines(band))
    assert "lattice, top_k 0, width 3" in text
    assert "(nats), band_outside 0." in " ".join(text.split())
    assert "band" not in "\n".join(summary_lines(whole)).replace("kdcache", "")


def test_a_band_survives_another_layout_and_codec(caches: dict[str, Cache], tmp_path: Path) -> None:
    given = caches["width"]
    convert(given.path, tmp_path / "tar", "webdataset")
    convert(given.path, tmp_path / "fp16", codecs={"lattice": {"name": "fp16"}})
    tar, fp16 = open_cache(tmp_path / "tar"), open_cache(tmp_path / "fp16")
    assert tar.content_digest() == given.content_digest()
    for key in given:
        before = lattice_of(given, key)
        for cache in (tar, fp16):
            after = lattice_of(cache, key)
            np.testing.assert_array_equal(after.starts_T, before.starts_T)
            np.testing.assert_allclose(after.logp_TSC, before.logp_TSC, atol=0.02)


def settings_of(cache: Cache, tones: Path, out: Path, **loss: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {
            "out": out,
            "data": {"cache": cache.path, "corpus": tones / "train.jsonl"},
            "student": SMALL,
            "loss": {"lattice_kl": 0.05, **loss},
            "optim": {"steps": 3, "warmup": 1, "learning_rate": 2e-3},
            "batch_seconds": 4.0,
        }
    )


def test_a_student_learns_from_a_band(
    caches: dict[str, Cache], tones: Path, tmp_path: Path
) -> None:
    lines = {}
    for name, cache, loss in (
        ("whole", caches["whole"], {}),
        ("band", caches["width"], {}),
        ("in", caches["width"], {"rnnt_in_band": True}),
    ):
        Trainer(settings_of(cache, tones, tmp_path / name, **loss), World()).run()
        lines[name] = read_metrics(tmp_path / name)
        assert [line["step"] for line in lines[name]] == [1, 2, 3]
        assert "rnnt_in_band" not in lines[name][0]
    first = {name: found[0] for name, found in lines.items()}
    # Before the first step all students are one.
    assert first["band"]["rnnt"] == pytest.approx(first["whole"]["rnnt"], rel=1e-5)
    assert first["in"]["rnnt"] > first["band"]["rnnt"]
    assert first["in"]["lattice_kl"] == pytest.approx(first["band"]["lattice_kl"], rel=1e-4)
    assert first["band"]["lattice_kl"] < first["whole"]["lattice_kl"]
    losses = [line["loss"] for found in lines.values() for line in found]
    assert np.isfinite(losses).all()
