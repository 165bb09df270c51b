from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.errors import ConfigError, TeacherError
from kdcache.teacher import Teacher, load_teacher, registry
from kdcache.teacher.attention import WhisperTeacher
from kdcache.teacher.ctc import ParakeetCTCTeacher
from kdcache.teacher.transducer import TransducerTeacher
from kdcache.teacher.waveform_ctc import WaveformCTCTeacher
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _change(path: Path, **changes: Any) -> Path:
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("name", "adapter", "kind"),
    [
        ("transducer", TransducerTeacher, TeacherKind.TRANSDUCER),
        ("ctc", ParakeetCTCTeacher, TeacherKind.CTC),
        ("wav2vec2", WaveformCTCTeacher, TeacherKind.CTC),
        ("whisper", WhisperTeacher, TeacherKind.ATTENTION),
    ],
)
def test_the_architecture_decides(
    loaded: Callable[[str], Any], name: str, adapter: type, kind: TeacherKind
) -> None:
    assert type(loaded(name)) is adapter
    assert loaded(name).spec.kind is kind
    assert isinstance(loaded(name), Teacher)


def test_model_type_where_no_architecture_is_named(copy: Callable[[str], Path]) -> None:
    path = _change(copy("ctc"), architectures=None)
    assert isinstance(load_teacher(path), ParakeetCTCTeacher)


def test_every_model_type_has_an_answer() -> None:
    known = {*registry.ADAPTERS, *registry.REFUSED}
    assert set(registry.MODEL_TYPES.values()) == known


def test_tdt_is_refused_with_the_reason(copy: Callable[[str], Path]) -> None:
    path = _change(copy("transducer"), architectures=["ParakeetForTDT"], model_type="parakeet_tdt")
    with pytest.raises(TeacherError, match="it also predicts durations, which a lattice"):
        load_teacher(path)


def test_unknown_architecture_names_the_nearest(copy: Callable[[str], Path]) -> None:
    path = _change(copy("wav2vec2"), architectures=["Wav2Vec2ForCtc"])
    with pytest.raises(TeacherError, match=r"Did you mean 'Wav2Vec2ForCTC'\?"):
        load_teacher(path)


def test_no_architecture_at_all(copy: Callable[[str], Path]) -> None:
    path = _change(copy("wav2vec2"), architectures=None, model_type=None)
    with pytest.raises(TeacherError, match="holds no named architecture, which no adapter knows"):
        load_teacher(path)


def test_adapter_by_name(saved: dict[str, Path]) -> None:
    teacher = load_teacher(saved["ctc"], adapter="kdcache.teacher.ctc:ParakeetCTCTeacher")
    assert isinstance(teacher, ParakeetCTCTeacher)


@pytest.mark.parametrize("name", ["no.such:Thing", "kdcache.teacher.ctc:Nothing", "nocolon", ""])
def test_adapter_that_is_not_there(saved: dict[str, Path], name: str) -> None:
    if not name:
        assert isinstance(load_teacher(saved["ctc"], adapter=name), ParakeetCTCTeacher)
        return
    with pytest.raises(ConfigError, match="cannot be imported .* expected module:Class"):
        load_teacher(saved["ctc"], adapter=name)


def test_adapter_that_is_no_teacher(saved: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="is no teacher: it must have spec, tokenizer"):
        load_teacher(saved["ctc"], adapter="builtins:slice")


def test_entry_point_of_a_third_party(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, saved: dict[str, Path]
) -> None:
    point = EntryPoint("MyForCTC", "kdcache.teacher.ctc:ParakeetCTCTeacher", group=registry.GROUP)
    asked = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [point]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    path = _change(copy("ctc"), architectures=["MyForCTC"])
    # Found by the entry point; transformers has no such class, so the adapter says so.
    with pytest.raises(TeacherError, match="holds a MyForCTC, which transformers .* does not have"):
        load_teacher(path)
    assert asked == ["kdcache.teachers"]
