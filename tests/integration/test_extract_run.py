"""Extraction under Ray: the same cache from any number of actors, whatever dies on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner

from kdcache.corpus.audio import load_audio
from kdcache.corpus.manifest import read_manifest, write_manifest
from kdcache.extract import ExtractConfig, run_extract
from kdcache.store import open_cache, verify
from kdcache.types import AudioRef
from tests.unit.extract.extract_fakes import (
    ADAPTER,
    WORDS,
    extract_here,
    save_corpus,
    save_fake_teacher,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

LENGTHS = [4000 + 400 * i for i in range(12)]


def config(place: Path, name: str = "cache", **changes) -> ExtractConfig:
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / name)},
        "targets": ["lattice", {"kind": "encoder_logits", "top_k": 4}],
        "batch_seconds": 2.5,
        "unit_utterances": 4,
        "actors": 2,
        "max_attempts": 2,
    }
    return ExtractConfig.model_validate({**settings, **changes})


@pytest.fixture
def place(tmp_path):
    save_corpus(tmp_path / "wav", LENGTHS)
    save_fake_teacher(tmp_path / "teacher")
    return tmp_path


@pytest.fixture(scope="module")
def transducer(tmp_path_factory):
    """A real architecture with random weights, and a corpus at its sample rate."""
    from kdcache.testing.small_teachers import save_small_transducer

    folder = tmp_path_factory.mktemp("transducer")
    save_small_transducer(folder / "teacher", [" ".join(WORDS)])
    save_corpus(folder / "wav", [2 * length for length in LENGTHS], rate=16000)
    return folder


def test_any_layout_and_number_of_actors_give_the_same_content(transducer):
    real = {
        "teacher": {"path": transducer / "teacher"},
        "targets": ["lattice", {"kind": "hidden", "codec": "int8"}],
    }
    reports = []
    for layout, actors in (("zarr", 2), ("webdataset", 1)):
        cache = {"path": str(transducer / layout), "layout": layout, "audio": "flac"}
        reports.append(run_extract(config(transducer, **real, cache=cache, actors=actors)))
        assert verify(transducer / layout) == []
    assert reports[0].content_digest == reports[1].content_digest
    assert all(report.complete for report in reports)
    assert [report.done for report in reports] == [12, 12]

    cache = open_cache(transducer / "zarr")
    for utterance in read_manifest(transducer / "wav" / "manifest.jsonl"):
        record = cache[utterance.id]["lattice"]
        total = np.logaddexp.reduce(record.logp_TSC, axis=-1)
        np.testing.assert_allclose(total, 0.0, atol=1e-4)
    assert reports[0].hours == pytest.approx(sum(LENGTHS) / 8000 / 3600)
    assert reports[0].bytes == cache.nbytes


def test_an_actor_that_is_killed_changes_nothing(place):
    undisturbed = extract_here(config(place, "undisturbed"))
    save_fake_teacher(place / "teacher", die_once=[LENGTHS[5]])
    disturbed = run_extract(config(place))
    assert (place / "teacher" / "died").exists(), "nobody died"
    assert disturbed.complete
    assert disturbed.content_digest == undisturbed.content_digest()


def test_an_actor_begins_with_its_next_unit_while_the_teacher_is_at_one(place):
    save_fake_teacher(place / "teacher", patience=5)
    teacher = {"path": place / "teacher", "adapter": f"{ADAPTER.partition(':')[0]}:PatientTeacher"}
    report = run_extract(config(place, teacher=teacher, actors=1))
    assert report.complete, report.lines()


def test_an_utterance_that_kills_every_actor_is_isolated(place):
    save_fake_teacher(place / "teacher", die=[LENGTHS[5]])
    report = run_extract(config(place, actors=1, max_attempts=1))
    assert report.failed == {"crash": ("u05",)}
    assert "No teacher actor survives" in report.messages["u05"]
    assert report.done == 11
    assert not report.complete
    assert len(open_cache(place / "cache")) == 11

    again = run_extract(config(place))  # which starts no actor
    assert (again.done, again.skipped, again.failed) == (0, 11, {"crash": ("u05",)})

    save_fake_teacher(place / "teacher")
    mended = run_extract(config(place, retry_failed=True))
    assert mended.complete
    assert (mended.done, mended.skipped) == (1, 11)


class TestBadUtterances:
    @pytest.fixture
    def damaged(self, place):
        """Three utterances of twelve cannot be used."""
        manifest = place / "wav" / "manifest.jsonl"
        corpus = read_manifest(manifest)
        (place / "wav" / "u01.wav").write_bytes(b"no audio at all")
        (place / "wav" / "u02.wav").unlink()
        corpus[3] = replace(corpus[3], text="")
        write_manifest(manifest, corpus)
        (place / "extract.yaml").write_text(
            json.dumps(config(place, actors=1).model_dump(mode="json", exclude={"ray"}))
        )
        return place

    def extract(self, place, *arguments):
        from kdcache.cli.main import main

        return CliRunner().invoke(main, ["extract", str(place / "extract.yaml"), *arguments])

    def test_they_are_recorded_by_name_and_the_others_committed(self, damaged):
        result = self.extract(damaged, "--json")
        report = json.loads(result.stdout)
        assert result.exit_code == 3
        assert report["failed"] == {"audio": ["u01", "u02"], "transcript": ["u03"]}
        assert "does not exist" in report["messages"]["u02"]
        assert (report["done"], report["complete"]) == (9, False)
        assert len(open_cache(damaged / "cache")) == 9
        assert "3 of 12 utterances are not in the cache" in result.stderr

        again = self.extract(damaged)
        assert again.exit_code == 3
        assert "failed (audio): 2: 'u01', 'u02'" in again.stdout
        assert "0 done" in again.stdout

        self.mend(damaged)
        mended = self.extract(damaged, "--set", "retry_failed=true", "--json")
        assert mended.exit_code == 0
        assert json.loads(mended.stdout)["done"] == 3
        assert verify(damaged / "cache") == []

    def mend(self, place):
        manifest = place / "wav" / "manifest.jsonl"
        corpus = read_manifest(manifest)
        for index in (1, 2):
            noise = np.random.default_rng(index).normal(0, 0.1, LENGTHS[index])
            sf.write(place / "wav" / f"u{index:02d}.wav", noise, 8000, subtype="FLOAT")
        corpus[3] = replace(corpus[3], text="five")
        write_manifest(manifest, corpus)

    def test_one_bad_setting_ends_the_command_with_one_sentence(self, damaged):
        result = self.extract(damaged, "--set", "targets=decoder_logits")
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: ")
        assert "Traceback" not in result.stderr
        assert not (damaged / "cache").exists()


def test_a_corpus_that_grew_is_extended_and_progress_is_told(place):
    manifest = place / "wav" / "manifest.jsonl"
    corpus = read_manifest(manifest)
    write_manifest(manifest, corpus[:7])
    assert len(extract_here(config(place))) == 7
    write_manifest(manifest, corpus)
    seen = []
    report = run_extract(config(place, actors=1), seen.append)
    assert report.complete
    assert (report.done, report.skipped) == (5, 7)
    assert [s.done for s in seen] == sorted(s.done for s in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (5, 5, 0)
    assert seen[-1].audio_seconds == pytest.approx(sum(LENGTHS[7:]) / 8000)


def test_offsets_into_one_long_file(place):
    noise = np.random.default_rng(5).normal(0, 0.1, 20000).astype(np.float32)
    sf.write(place / "long.wav", noise, 8000, subtype="FLOAT")
    corpus = read_manifest(place / "wav" / "manifest.jsonl")[:3]
    parts = [
        replace(u, audio=AudioRef(str(place / "long.wav"), 0.5 * i, 0.75))
        for i, u in enumerate(corpus)
    ]
    write_manifest(place / "parts.jsonl", parts)
    report = run_extract(config(place, corpus=place / "parts.jsonl", actors=1))
    assert report.complete
    frames = open_cache(place / "cache").catalogue["frames"].to_pylist()
    assert frames == [len(load_audio(u.audio, 8000)) // 400 for u in parts]
