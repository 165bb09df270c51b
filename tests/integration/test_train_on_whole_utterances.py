"""A student learns from scores, hypotheses and codebooks of a real network, and from them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.corpus.manifest import write_manifest
from kdcache.extract import ExtractConfig
from kdcache.student import load_student
from kdcache.testing.small_teachers import save_small_transducer
from kdcache.train.loop import Trainer
from kdcache.train.metrics import read_metrics
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World
from tests.unit.extract.extract_fakes import extract_here

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Cache

HIDDEN, BOOKS, STEPS = 16, 2, 24
TERMS = ("full_sum", "hypotheses", "hidden_mse", "hidden_codes")


@pytest.fixture(scope="module")
def cache(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    place = tmp_path_factory.mktemp("taught")
    tokenizer = load_tokenizer(tones / "tokenizer")
    teacher = save_small_transducer(place / "teacher", tokenizer, hidden=HIDDEN)
    write_manifest(place / "few.jsonl", list(read_manifest(tones / "train.jsonl"))[:6])
    codec = {"name": "codebooks", "count": BOOKS}
    settings = {
        "teacher": {"path": teacher},
        "corpus": place / "few.jsonl",
        "cache": {"path": str(place / "cache"), "audio": "flac"},
        "targets": [
            "full_sum",
            {"kind": "hypotheses", "n": 2, "beam": 2, "max_symbols": 1},
            {"kind": "hidden", "codec": codec},
        ],
    }
    return extract_here(ExtractConfig.model_validate(settings))


@pytest.mark.parametrize("term", TERMS)
def test_each_term_goes_down(cache: Cache, tmp_path: Path, term: str) -> None:
    values: dict[str, Any] = {
        "out": tmp_path / "run",
        "data": {"cache": cache.location},
        "student": {
            "hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16,
            "subsampling_channels": 4, "dropout": 0,
            "hidden_head": HIDDEN, "codebook_head": BOOKS,
        },
        "loss": {"rnnt": 0.0, term: 0.5},
        "optim": {"steps": STEPS, "warmup": 2, "learning_rate": 1e-2},
        "batch_seconds": 100.0,
        "augment": False,
        "checkpoint_every": STEPS,
    }  # fmt: skip
    folder = Trainer(TrainSettings.model_validate(values), World()).run()
    lines = read_metrics(tmp_path / "run")
    assert {"rnnt", *TERMS} & lines[0].keys() == {term}
    assert lines[0]["loss"] == pytest.approx(lines[0][term] / 2)
    epochs = [[line[term] for line in lines if line["epoch"] == epoch] for epoch in (0, 3)]
    assert len(epochs[0]) == len(epochs[1])  # the same utterances, in other steps
    assert sum(epochs[1]) < 0.9 * sum(epochs[0])
    assert load_student(folder).codebook_head is not None
