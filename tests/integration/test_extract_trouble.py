"""Under Ray: utterances that kill, a disk that fills up, and two runs in each other's way."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.extract import ExtractConfig, run_extract
from kdcache.store import find_garbage, open_cache, verify
from tests.unit.extract.extract_fakes import ADAPTER, extract_here, save_corpus, save_fake_teacher

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

LENGTHS = [4000 + 400 * i for i in range(16)]


def config(place: Path, name: str = "cache", **changes) -> ExtractConfig:
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / name)},
        "targets": ["lattice"],
        "batch_seconds": 2.5,
        "unit_utterances": 4,
        "actors": 2,
        "max_attempts": 1,
    }
    return ExtractConfig.model_validate({**settings, **changes})


@pytest.fixture
def place(tmp_path):
    save_corpus(tmp_path / "wav", LENGTHS)
    save_fake_teacher(tmp_path / "teacher")
    return tmp_path


@pytest.fixture
def undisturbed(place):
    return extract_here(config(place, "undisturbed")).content_digest()


def extract(place: Path, *arguments: str):
    path = place / "extract.yaml"
    path.write_text(json.dumps(config(place).model_dump(mode="json", exclude={"ray"})))
    return CliRunner().invoke(main, ["extract", str(path), "--json", *arguments])


def test_what_kills_is_passed_by_and_told_with_the_command_that_tries_again(place, undisturbed):
    save_fake_teacher(place / "teacher", segfault=[LENGTHS[1]], exit=[LENGTHS[6]], nan=[LENGTHS[9]])
    (place / "wav" / "u12.wav").rename(place / "u12.wav")
    result = extract(place)
    assert result.exit_code == 3, result.output
    told = json.loads(result.stdout)
    assert told["failed"] == {"crash": ["u01", "u06"], "audio": ["u12"], "teacher-output": ["u09"]}
    assert told["done"] == len(LENGTHS) - 4
    assert told["left"] == []
    assert "No teacher actor survives" in told["messages"]["u01"]
    assert "NaN" in told["messages"]["u09"]
    assert "4 of 16 utterances are not in the cache" in result.stderr
    assert verify(place / "cache") == []

    (place / "u12.wav").rename(place / "wav" / "u12.wav")
    save_fake_teacher(place / "teacher")
    again = result.stderr.splitlines()[-1].partition("try them again: ")[2].split()
    assert again == ["kdcache", "extract", str(place / "extract.yaml"), "--retry-failed"]
    mended = extract(place, again[-1])
    assert mended.exit_code == 0, mended.output
    assert json.loads(mended.stdout)["done"] == 4
    assert json.loads(mended.stdout)["content_digest"] == undisturbed


def test_a_full_disk_ends_the_run_in_one_sentence_and_the_same_command_goes_on(place, undisturbed):
    save_fake_teacher(place / "teacher", full=[LENGTHS[10]])
    result = extract(place)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "the same command does the others" in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error")]) == 1
    assert "Traceback" not in result.stderr
    assert verify(place / "cache") == []
    there = len(open_cache(place / "cache"))
    assert there < len(LENGTHS)

    (place / "teacher" / "room").touch()
    resumed = extract(place)
    assert resumed.exit_code == 0, resumed.output
    report = json.loads(resumed.stdout)
    assert (report["skipped"], report["done"]) == (there, len(LENGTHS) - there)
    assert report["content_digest"] == undisturbed


@pytest.mark.parametrize("sizes", [(4, 4), (4, 3)])
def test_two_runs_at_once_are_one(place, undisturbed, sizes):
    """The same units, of which each is committed once; and units that overlap."""
    save_fake_teacher(place / "teacher", sleep=0.1)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(run_extract, config(place, actors=1, unit_utterances=size))
            for size in sizes
        ]
        reports = [run.result(timeout=600) for run in runs]
    assert all(report.complete for report in reports)
    cache = open_cache(place / "cache")
    assert cache.content_digest() == undisturbed
    assert verify(place / "cache") == []
    if sizes[0] == sizes[1]:
        assert len(cache.units) == len(LENGTHS) // sizes[0]
        garbage = {entry.key.partition("/")[0] for entry in find_garbage(place / "cache")}
        assert garbage <= {"data", "catalogue"}, "of beaten commits, at most"


def test_another_number_of_actors_and_another_unit_size_go_on(place, undisturbed):
    class EnoughError(Exception):
        pass

    def stop_half_way(snapshot):
        if snapshot.done >= 8:
            raise EnoughError

    with pytest.raises(EnoughError):
        run_extract(config(place, actors=2), stop_half_way)
    there = len(open_cache(place / "cache"))
    assert 8 <= there < len(LENGTHS)
    report = run_extract(config(place, actors=1, unit_utterances=5))
    # What was being committed when the first run was stopped may have landed since.
    assert there <= report.skipped == len(LENGTHS) - report.done
    assert report.content_digest == undisturbed
    assert verify(place / "cache") == []
