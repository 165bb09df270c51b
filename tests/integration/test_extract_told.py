"""What a run tells while it goes: its events file, Ray's metrics, and ``kdcache status``."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from kdcache.extract import ExtractConfig, run_extract
from kdcache.inspect.runs import read_events
from kdcache.store import open_cache, verify
from tests.unit.extract.extract_fakes import ADAPTER, save_corpus, save_fake_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.extract import ExtractReport

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

LENGTHS = [4000 + 400 * i for i in range(8)]
PATIENCE = 60.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Path, ExtractReport]:
    """A cache of eight utterances, of which one has no audio and one kills an actor once."""
    place = tmp_path_factory.mktemp("told")
    save_corpus(place / "wav", LENGTHS)
    (place / "wav" / "u01.wav").unlink()
    save_fake_teacher(place / "teacher", die_once=[LENGTHS[6]])
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / "cache")},
        "targets": ["lattice"],
        "unit_utterances": 2,
        "actors": 1,
    }
    return place / "cache", run_extract(ExtractConfig.model_validate(settings))


def test_the_events_are_in_the_cache(run: tuple[Path, ExtractReport]) -> None:
    cache, report = run
    (file,) = (cache / "runs").iterdir()
    events = list(read_events(file))
    names = [event["event"] for event in events]
    assert (names[0], names[-1]) == ("run_started", "run_ended")
    assert names.count("unit_done") == 4
    assert names.count("actor_lost") == names.count("actor_started") - 1 == 1
    (failed,) = (event for event in events if event["event"] == "utterance_failed")
    assert (failed["id"], failed["code"]) == ("u01", "audio")
    end = events[-1]
    assert end["outcome"] == "incomplete"
    assert (end["run"]["done"], end["run"]["failed"]) == (8, 1)
    assert end["run"]["audio_seconds"] == pytest.approx(3600 * report.hours)
    files = [file for room in ("data", "catalogue") for file in (cache / room).iterdir()]
    assert end["run"]["bytes"] == sum(file.stat().st_size for file in files)


def test_they_are_no_part_of_what_is_read(run: tuple[Path, ExtractReport]) -> None:
    cache, report = run
    assert verify(cache) == []
    assert open_cache(cache).content_digest() == report.content_digest


def test_status_tells_how_the_last_run_ended(run: tuple[Path, ExtractReport]) -> None:
    from kdcache.cli.main import main

    cache, _ = run
    told = CliRunner().invoke(main, ["status", str(cache)]).stdout
    assert re.search(r"last run +incomplete, 8 of 8 utterances, .* 1 failed", told)
    data = json.loads(CliRunner().invoke(main, ["status", str(cache), "--json"]).stdout)
    assert (data["run"]["state"], data["run"]["failed"]) == ("incomplete", 1)
    (file,) = (cache / "runs").iterdir()
    again = CliRunner().invoke(main, ["status", str(cache), "--events", str(file)])
    assert again.stdout == told


def test_ray_offers_the_totals_to_prometheus(run: tuple[Path, ExtractReport]) -> None:
    pytest.importorskip("ray.dashboard.optional_deps", reason="needs kdcache[cluster]")
    cache, report = run
    wanted = {
        "ray_kdcache_utterances_total": 8.0,
        "ray_kdcache_failures_total": 1.0,
        "ray_kdcache_audio_seconds_total": pytest.approx(3600 * report.hours),
        "ray_kdcache_utterances_planned": 8.0,
    }
    deadline = time.monotonic() + PATIENCE
    found = offered(str(cache))
    while {name: found.get(name) for name in wanted} != wanted:  # they come a second late
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
        found = offered(str(cache))
    assert found["ray_kdcache_bytes_total"] > 1000
    assert "ray_kdcache_actors" in found


def offered(cache: str) -> dict[str, float]:
    """Our metrics of that cache, as the node's agent has them now."""
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    ours = (line for line in lines if line.startswith("ray_kdcache_") and f'"{cache}"' in line)
    return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in ours}
