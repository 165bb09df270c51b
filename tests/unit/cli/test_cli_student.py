"""`kdcache student pack`, and `kdcache score` of what it writes; the stages that do the same."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.corpus import load_tokenizer, read_manifest, write_manifest
from kdcache.pipeline.kind import Work
from kdcache.pipeline.kinds.pack import PackKind, PackSettings
from kdcache.pipeline.kinds.score import ScoreKind, ScoreSettings
from kdcache.score.counts import read_counts
from kdcache.score.speed import single_real_time_factor
from kdcache.student import build_student, load_student, save_student
from kdcache.student.san_m_settings import SanMStudentSettings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a student of random weights; a manifest beside it."""
    torch.manual_seed(1)
    out = tmp_path_factory.mktemp("run")
    sizes = {"hidden": 16, "layers": 2, "heads": 2, "subsampling_channels": 4}
    decoder = {"width": 16, "layers": 1, "heads": 2}
    settings = SanMStudentSettings.model_validate({**sizes, "decoder": decoder})
    save_student(build_student(settings, load_tokenizer(tones / "tokenizer")), out / "student")
    write_manifest(out / "test.jsonl", list(read_manifest(tones / "train.jsonl"))[:4])
    return out


def told(*words: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_packed_and_scored(run: Path, tmp_path: Path) -> None:
    said = json.loads(told("student", "pack", run, tmp_path / "packed", "--json"))
    assert said["file"] == str(tmp_path / "packed" / "model.packed")
    assert said["bytes"] == (tmp_path / "packed" / "model.packed").stat().st_size
    assert said["bytes_before"] == (run / "student" / "model.safetensors").stat().st_size
    assert said["bytes"] < said["bytes_before"] / 3
    scored = json.loads(told("score", tmp_path / "packed", run / "test.jsonl", "--json"))
    assert scored["bytes"] == said["bytes"]
    whole = json.loads(told("score", run, run / "test.jsonl", "--json"))
    assert scored["parameters"] == whole["parameters"]


def test_what_is_not_asked_for_is_not_done(run: Path, tmp_path: Path) -> None:
    line = told("student", "pack", run, tmp_path / "floats", "--no-int8", "--no-sparse")
    assert line.startswith(f"{tmp_path / 'floats' / 'model.packed'}: ")
    before, after = load_student(run / "student"), load_student(tmp_path / "floats")
    for name, weight in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], weight)


@pytest.mark.parametrize("what", ["no student", "a student", "a file"])
def test_mistakes_are_told_in_one_sentence(run: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("")
    if what == "no student":
        message = told("student", "pack", tmp_path, tmp_path / "out", code=2)
        assert "is not a trained student" in message
    elif what == "a student":
        message = told("student", "pack", run, run / "student", code=2)
        assert "holds a student already" in message
    else:
        message = told("student", "pack", run, tmp_path / "file", code=2)
        assert "cannot write" in message
    assert message.count("\n") == 1


def work(place: Path) -> Work:
    def show(*_: object) -> nullcontext[SimpleNamespace]:
        return nullcontext(SimpleNamespace(update=lambda *_: None))

    return Work("name", place, place, {"bits": "int8"}, show)  # type: ignore[arg-type]


def test_stages_pack_and_score(run: Path, tmp_path: Path) -> None:
    pack, score = PackKind(), ScoreKind()
    settings = PackSettings(student=run / "student")
    packed = pack.outputs(settings, tmp_path)["student"]
    facts = pack.run(settings, work(tmp_path))
    assert facts == {"bytes": (packed / "model.packed").stat().st_size}
    assert pack.run(settings, work(tmp_path)) == facts  # begun again where it was killed
    scored = ScoreSettings(student=packed, manifest=run / "test.jsonl", timed=2)
    score.run(scored, work(tmp_path))
    counts = read_counts(score.outputs(scored, tmp_path)["report"])
    assert counts.figures["bytes"] == facts["bytes"]
    assert counts.figures["real_time_factor"] > 0
    assert counts.labels == {"bits": "int8"}


def test_speed_is_measured_in_one_thread_one_by_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdcache.score import speed

    seen: list[tuple[int, int]] = []
    real = speed.transcribe

    def transcribe(student: object, samples: list[object]) -> list[str]:
        seen.append((torch.get_num_threads(), len(samples)))
        return real(student, samples)

    monkeypatch.setattr(speed, "transcribe", transcribe)
    student, utterances = load_student(run / "student"), read_manifest(run / "test.jsonl")
    threads = torch.get_num_threads()
    assert single_real_time_factor(student, utterances, 3, repeats=2) > 0
    assert seen == [(1, 1)] * (1 + 2 * 3)
    assert torch.get_num_threads() == threads
    assert single_real_time_factor(student, utterances, 99, repeats=1) > 0
    assert len(seen) == 7 + 1 + 4
