"""Scores, codebooks and hypotheses the whole way: teacher, cache in either layout, batch, loss."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from kdcache.batch import Batch, HypothesesBatch, ScoreBatch, VectorBatch, to_device
from kdcache.cli.main import main
from kdcache.codec import HypothesesRecord, ScoreRecord, VectorRecord, make_codec
from kdcache.errors import ConfigError, SpecMismatchError, TeacherError
from kdcache.extract import ExtractConfig, prepare
from kdcache.loss import (
    codebook_cross_entropy,
    full_sum_distance,
    hypotheses_nll,
    hypothesis_weights,
    vector_mse,
)
from kdcache.store import convert, open_cache, verify
from kdcache.stream import stream_cache
from kdcache.target.full_sum import likelihood_of
from kdcache.target.hypotheses import HypothesesTarget
from tests.unit.extract.extract_fakes import (
    ADAPTER,
    WIDTH,
    FakeTeacher,
    extract_here,
    save_corpus,
    save_fake_teacher,
)

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.store import Cache

LENGTHS = [4000, 8000, 12000, 6000]
TARGETS: list[Any] = [
    "full_sum",
    {"kind": "hypotheses", "n": 3, "max_symbols": 2},
    {"kind": "hidden", "codec": {"name": "codebooks", "count": 2}},
]


def config(place: Path, cache: str = "zarr", **changes: Any) -> ExtractConfig:
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / cache), "layout": cache.partition("-")[0]},
        "targets": TARGETS,
        "unit_utterances": 2,
    }
    return ExtractConfig.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("new")
    save_fake_teacher(place / "teacher")
    save_corpus(place / "wav", LENGTHS)
    return place


@pytest.fixture(scope="module")
def caches(place: Path) -> dict[str, Cache]:
    return {name: extract_here(config(place, name)) for name in ("zarr", "webdataset")}


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
def test_a_batch_has_what_the_losses_take(caches: dict[str, Cache], layout: str) -> None:
    cache = caches[layout]
    assert verify(cache.location) == []
    batches = list(stream_cache(cache, batch_seconds=100, shuffle=False))
    assert sum(len(batch) for batch in batches) == len(LENGTHS)
    for batch in batches:
        _check_batch(cache, to_device(batch, "cpu"))


def _check_batch(cache: Cache, batch: Batch) -> None:
    score, hidden = batch.targets["full_sum"], batch.targets["hidden"]
    assert isinstance(score, ScoreBatch)
    assert isinstance(hidden, VectorBatch)
    assert hidden.codes_BTQ is not None
    for row, name in enumerate(batch.ids):
        record, vectors = cache[name]["full_sum"], cache[name]["hidden"]
        assert isinstance(record, ScoreRecord)
        assert isinstance(vectors, VectorRecord)
        assert vectors.codes_TQ is not None
        assert score.scores_B[row] == record.score_1[0] < 0
        frames = int(hidden.lengths_B[row])
        assert np.array_equal(hidden.values_BTD[row, :frames], vectors.values_TD)
        assert np.array_equal(hidden.codes_BTQ[row, :frames], vectors.codes_TQ)
        assert (hidden.codes_BTQ[row, frames:] == -1).all()
    _check_hypotheses(cache, batch)
    student = torch.zeros(*hidden.values_BTD.shape[:2], 2, 256)
    entropy = codebook_cross_entropy(student, hidden, "none")
    assert entropy.tolist() == pytest.approx((hidden.lengths_B * 2 * np.log(256)).tolist())
    assert vector_mse(hidden.values_BTD, hidden).item() == 0
    assert full_sum_distance(-score.scores_B, score).item() == 0


def _check_hypotheses(cache: Cache, batch: Batch) -> None:
    lists = batch.targets["hypotheses"]
    assert isinstance(lists, HypothesesBatch)
    for row, name in enumerate(batch.ids):
        record = cache[name]["hypotheses"]
        assert isinstance(record, HypothesesRecord)
        count = int(lists.counts_B[row])
        assert count == len(record.scores_H) == 3
        assert np.array_equal(lists.scores_BH[row, :count], record.scores_H)
        for h, labels in enumerate(record.sequences()):
            length = int(lists.lengths_BH[row, h])
            assert lists.ids_BHU[row, h, :length].tolist() == labels.tolist()
            assert (lists.ids_BHU[row, h, length:] == -1).all()
    weights = hypothesis_weights(lists)
    expected = (weights * -lists.scores_BH).sum(1)
    torch.testing.assert_close(hypotheses_nll(-lists.scores_BH, lists, reduction="none"), expected)


def test_a_ctc_teacher_gives_them_as_well(tmp_path: Path) -> None:
    save_fake_teacher(tmp_path / "teacher", kind="ctc")
    save_corpus(tmp_path / "wav", LENGTHS)
    cache = extract_here(config(tmp_path))
    assert len(cache) == len(LENGTHS)
    for name in cache:
        score, lists = cache[name]["full_sum"], cache[name]["hypotheses"]
        assert isinstance(score, ScoreRecord)
        assert isinstance(lists, HypothesesRecord)
        assert (np.diff(lists.scores_H) <= 0).all()
        outside = cache.catalogue["fidelity.hypotheses.mass_outside"].to_numpy()
        assert (outside < 1).all()


def test_the_transcript_is_as_probable_as_target_or_hypothesis(place: Path) -> None:
    """The score of a hypothesis is what full_sum says where it is the transcript."""
    teacher = FakeTeacher(place / "teacher")
    samples = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    codec = make_codec("hypotheses", {"name": "fp32"})
    (output,) = teacher.forward([samples], [(1,)])
    record = codec.decode(HypothesesTarget(n=2, max_symbols=2).reduce(output, codec).columns)
    assert isinstance(record, HypothesesRecord)
    labels = tuple(record.sequences()[0].tolist())
    (output,) = teacher.forward([samples], [labels])
    assert likelihood_of(output) == pytest.approx(record.scores_H[0], rel=1e-5)


def test_both_layouts_hold_the_same(caches: dict[str, Cache]) -> None:
    assert caches["zarr"].content_digest() == caches["webdataset"].content_digest()


def test_the_catalogue_tells_what_was_lost_and_what_was_said(caches: dict[str, Cache]) -> None:
    cache = caches["zarr"]
    rows = cache.catalogue.to_pylist()
    for row in rows:
        record = cache[row["id"]]["full_sum"]
        assert isinstance(record, ScoreRecord)
        expected = -record.score_1[0] / len(row["tokens"])
        assert row["fidelity.full_sum.nats_per_label"] == pytest.approx(expected, rel=1e-6)
        assert 0 < row["fidelity.hidden.error_relative"] < 0.2


def test_inspect_shows_them(caches: dict[str, Cache]) -> None:
    run = CliRunner().invoke(main, ["inspect", caches["zarr"].location])
    assert run.exit_code == 0, run.output
    text = " ".join(run.output.split())
    assert "codec codebooks, count 2, table additive" in text
    assert "nats_per_label" in text
    assert "hypotheses, beam 8, max_symbols 2, n 3" in text
    assert "mass_outside" in text
    assert max(map(len, run.output.splitlines())) <= 100
    run = CliRunner().invoke(main, ["inspect", caches["zarr"].location, "--json"])
    found = {target["name"]: target for target in json.loads(run.output)["targets"]}
    assert len(run.output) < 20_000  # the codebooks are named, not printed
    assert found["hidden"]["codec"]["table"]["entries"].startswith("sha256:")
    each = caches["zarr"].catalogue["fidelity.full_sum.nats_per_label"].to_numpy()
    assert found["full_sum"]["fidelity"]["nats_per_label"] == pytest.approx(each.mean())
    assert found["full_sum"]["bytes"] == 4 * len(each)
    assert found["hidden"]["bytes"] == 2 * sum(n // 400 for n in LENGTHS)


def test_compare_tells_how_far_two_caches_are(place: Path, caches: dict[str, Cache]) -> None:
    vectors = {"kind": "hidden", "codec": {"name": "fp16"}}
    fewer = {"kind": "hypotheses", "n": 1, "max_symbols": 2}
    other = extract_here(config(place, "zarr-exact", targets=["full_sum", fewer, vectors]))
    run = CliRunner().invoke(main, ["compare", other.location, caches["zarr"].location])
    assert run.exit_code == 0, run.output
    assert "4 utterances" in run.output
    assert "(nats)" in run.output
    assert "best hypothesis of 0 % of utterances" in run.output


def test_the_codebooks_are_trained_once(
    place: Path, caches: dict[str, Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kdcache.extract.codebooks.train_codebooks", lambda *_: pytest.fail("trained again")
    )
    ready = prepare(config(place, sample_utterances=1))
    assert ready.plan.present == len(LENGTHS)
    assert ready.spec.spec_hash == caches["zarr"].spec.spec_hash


def test_other_codebooks_than_the_caches_are_refused(place: Path, caches: dict[str, Cache]) -> None:
    assert caches
    asked = [{"kind": "hidden", "codec": {"name": "codebooks", "count": 3}}]
    with pytest.raises(SpecMismatchError, match="with count 2 in the cache, .* count 3 was asked"):
        prepare(config(place, targets=asked))


def test_codebooks_of_ones_own_are_told_apart_in_a_line(
    place: Path, caches: dict[str, Cache]
) -> None:
    codec = json.loads(json.dumps(caches["zarr"].spec.target("hidden").codec))
    assert prepare(config(place, targets=[*TARGETS[:2], {"kind": "hidden", "codec": codec}]))
    codec["table"]["entries"] = "AAAA" + codec["table"]["entries"][4:]
    with pytest.raises(SpecMismatchError, match=r"codec\.table\.entries is ") as caught:
        prepare(config(place, targets=[*TARGETS[:2], {"kind": "hidden", "codec": codec}]))
    assert len(str(caught.value)) < 600


def test_codebooks_are_of_vectors(place: Path) -> None:
    asked = [{"kind": "lattice", "codec": {"name": "codebooks"}}]
    with pytest.raises(ConfigError, match="no codec 'codebooks' for lattice records"):
        prepare(config(place, "zarr-none", targets=asked))


def test_a_teacher_that_fails_on_all_of_the_sample(tmp_path: Path) -> None:
    save_fake_teacher(tmp_path / "teacher", fail=LENGTHS)
    save_corpus(tmp_path / "wav", LENGTHS)
    with pytest.raises(TeacherError, match="fails on all 4 utterances of the sample"):
        prepare(config(tmp_path))


def test_another_codec_by_conversion(caches: dict[str, Cache], tmp_path: Path) -> None:
    """From entries to half precision, and to entries of the same codebooks again."""
    source = caches["zarr"]
    convert(source.location, tmp_path / "half", codecs={"hidden": {"name": "fp16"}})
    half = open_cache(tmp_path / "half")
    names = half.catalogue.column_names
    assert "fidelity.hidden.recode_error_max" in names
    assert "fidelity.hidden.source_error_relative" in names
    codec = source.spec.target("hidden").codec
    convert(tmp_path / "half", tmp_path / "again", codecs={"hidden": codec})
    again = open_cache(tmp_path / "again")
    for name in source.ids:
        one, other = source[name]["hidden"], again[name]["hidden"]
        assert isinstance(one, VectorRecord)
        assert isinstance(other, VectorRecord)
        assert one.values_TD.shape[1] == WIDTH
        assert np.allclose(one.values_TD, other.values_TD, atol=1e-2)


def test_the_teachers_spec_is_as_before(place: Path) -> None:
    """So that caches of earlier extractions go on: nothing was added to what it says it gives."""
    spec = FakeTeacher(place / "teacher").spec
    assert "full_sum" not in spec.targets
