"""Manifests: what is read, what is refused and how, and the way back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kdcache.corpus.manifest import (
    duplicated_ids,
    iter_manifest,
    read_manifest,
    refuse_duplicates,
    write_manifest,
)
from kdcache.errors import ManifestError
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, *rows: Any, name: str = "m.jsonl") -> Path:
    path = folder / name
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def row(**keys: Any) -> dict[str, Any]:
    return {"audio_filepath": "a.flac", "duration": 1.0, "text": "hello", **keys}


def test_every_key(tmp_path: Path) -> None:
    path = write(tmp_path, row(id="u1", offset=2.5, speaker="s1", lang="en"))
    audio = AudioRef(str(tmp_path / "a.flac"), 2.5, 1.0)
    assert read_manifest(path) == [Utterance("u1", audio, "hello", "s1")]


def test_fewest_keys(tmp_path: Path) -> None:
    (utterance,) = read_manifest(write(tmp_path, {"audio_filepath": "x/a.flac"}))
    assert utterance == Utterance("a", AudioRef(str(tmp_path / "x" / "a.flac")))
    assert utterance.duration == 0.0


def test_null_values_are_absent_values(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("id", "duration", "offset", "text", "speaker"))
    (utterance,) = read_manifest(write(tmp_path, row(**nothing)))
    assert utterance == Utterance("a", AudioRef(str(tmp_path / "a.flac")))


@pytest.mark.parametrize("key", ["id", "utt_id", "utt"])
def test_id_keys(tmp_path: Path, key: str) -> None:
    assert read_manifest(write(tmp_path, row(**{key: "name"})))[0].id == "name"


def test_numbers_as_ids_and_speakers_become_text(tmp_path: Path) -> None:
    (utterance,) = read_manifest(write(tmp_path, row(id=17, speaker=3)))
    assert (utterance.id, utterance.speaker) == ("17", "3")


def test_paths(tmp_path: Path) -> None:
    paths = ["a.wav", "../b.wav", "/abs/c.wav", "s3://bucket/d.wav"]
    path = write(tmp_path, *(row(audio_filepath=p) for p in paths))
    expected = [
        str(tmp_path / "a.wav"),
        str(tmp_path.parent / "b.wav"),
        "/abs/c.wav",
        "s3://bucket/d.wav",
    ]
    assert [u.audio.path for u in read_manifest(path)] == expected


def test_derived_ids_take_the_offset_in_where_a_file_is_shared(tmp_path: Path) -> None:
    rows = [
        row(audio_filepath="long.flac", offset=0),
        row(audio_filepath="long.flac", offset=12.61),
        row(audio_filepath="short.flac"),
    ]
    ids = [u.id for u in read_manifest(write(tmp_path, *rows))]
    assert ids == ["long-000000000", "long-000012610", "short"]


def test_derived_ids_take_the_folder_in_where_stems_repeat(tmp_path: Path) -> None:
    rows = [row(audio_filepath=p) for p in ("x/1.wav", "y/1.wav", "y/2.wav")]
    assert [u.id for u in read_manifest(write(tmp_path, *rows))] == ["x-1", "y-1", "2"]


def test_derived_ids_do_not_depend_on_where_the_manifest_is(tmp_path: Path) -> None:
    rows = [row(audio_filepath=p) for p in ("x/1.wav", "y/1.wav", "2.wav")]
    ids = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ids.append([u.id for u in read_manifest(write(tmp_path / name, *rows))])
    assert ids[0] == ids[1]


def test_given_and_derived_ids_mix(tmp_path: Path) -> None:
    path = write(tmp_path, row(id="given"), row(audio_filepath="b.wav"))
    assert [u.id for u in read_manifest(path)] == ["given", "b"]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, "", row(id="a"), "   ", row(id="b"), "")
    assert [u.id for u in read_manifest(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2 is not JSON"),
        ("[1, 2]", "line 2 is list, expected a JSON object"),
        ('{"text": "x", "duration": 1}', "no 'audio_filepath'; its keys are: duration, text"),
        ("{}", "its keys are: none"),
        ('{"audio_filepath": 3}', "'audio_filepath' is 3, expected a path"),
        ('{"audio_filepath": ""}', "'audio_filepath' is \"\", expected a path"),
        ('{"audio_filepath": "a", "duration": "long"}', "'duration' is \"long\", expected a fin"),
        ('{"audio_filepath": "a", "duration": NaN}', "'duration' is NaN, expected a finite"),
        ('{"audio_filepath": "a", "offset": true}', "'offset' is true, expected a finite"),
        ('{"audio_filepath": "a", "text": 5}', "'text' is 5, expected a string"),
        ('{"audio_filepath": "a", "id": ""}', "'id' is \"\", expected a string that is not empty"),
        ('{"audio_filepath": "a", "id": ["x"]}', r"'id' is \[\"x\"\], expected a string"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, row(id="good"), line)
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert f"{path}, line 2" in caught.value.message
    assert caught.value.exit_code == 2


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.jsonl cannot be read: No such file"):
        read_manifest(tmp_path / "none.jsonl")


def test_binary_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ManifestError, match="is not UTF-8 text"):
        read_manifest(tmp_path / "m.jsonl")


def test_empty_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no utterance"):
        read_manifest(write(tmp_path, ""))


def test_duplicated_ids_are_an_error_on_reading_whole(tmp_path: Path) -> None:
    path = write(tmp_path, *(row(id=name) for name in "abacbd"))
    with pytest.raises(ManifestError, match="ids more than once: 'a', 'b'; ids must be unique"):
        read_manifest(path)
    assert [u.id for u in iter_manifest(path)] == list("abacbd")


def test_only_some_duplicates_are_named() -> None:
    utterances = [Utterance(name, AudioRef("a")) for name in "abcdeabcde"]
    assert duplicated_ids(utterances) == list("abcde")
    with pytest.raises(ManifestError, match="'a', 'b', 'c' and 2 more;"):
        refuse_duplicates(utterances, "m")


def test_round_trip(tmp_path: Path) -> None:
    utterances = [
        Utterance("a", AudioRef(str(tmp_path / "x" / "a.flac"), 1.25, 2.5), "grüße", "s"),
        Utterance("b", AudioRef("/elsewhere/b.flac"), ""),
        Utterance("c", AudioRef("s3://bucket/c.flac", 0.0, 0.1), "it's"),
    ]
    path = tmp_path / "deep" / "er" / "m.jsonl"
    assert write_manifest(path, utterances) == 3
    assert read_manifest(path) == utterances


def test_paths_below_the_manifest_are_written_relative(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    inside = Utterance("a", AudioRef(str(tmp_path / "x" / "a.flac")))
    outside = Utterance("b", AudioRef("/elsewhere/b.flac"))
    write_manifest(path, [inside, outside])
    written = [json.loads(line)["audio_filepath"] for line in path.read_text().splitlines()]
    assert written == ["x/a.flac", "/elsewhere/b.flac"]


def test_a_moved_folder_reads_the_same(tmp_path: Path) -> None:
    old = tmp_path / "old"
    write_manifest(old / "m.jsonl", [Utterance("a", AudioRef(str(old / "a.flac")))])
    old.rename(tmp_path / "new")
    (utterance,) = read_manifest(tmp_path / "new" / "m.jsonl")
    assert utterance.audio.path == str(tmp_path / "new" / "a.flac")


def test_writing_that_fails_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write_manifest(path, [Utterance("old", AudioRef("/a"))])

    def broken() -> Any:
        yield Utterance("new", AudioRef("/a"))
        raise RuntimeError("the source ended early")

    with pytest.raises(RuntimeError, match="ended early"):
        write_manifest(path, broken())
    assert [u.id for u in read_manifest(path)] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_iterator_is_lazy(tmp_path: Path) -> None:
    path = write(tmp_path, row(id="a"), "{broken")
    lines = iter_manifest(path)
    assert next(lines).id == "a"
    with pytest.raises(ManifestError, match="line 2"):
        next(lines)


def test_human_speech(shared_data: Path) -> None:
    utterances = read_manifest(shared_data / "natural" / "natural.jsonl")
    assert len(utterances) == 792
    assert utterances[0].id == "ls-1188-133604-0003"
    assert sum(u.duration for u in utterances) / 3600 == pytest.approx(1.19, abs=0.01)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"audio_filepath": "a\\ud800.wav"}', "surrogate"),
        ('{"audio_filepath": "a.wav", "id": "\\udfff"}', "surrogate"),
        ('{"audio_filepath": "a.wav", "text": "\\ud800"}', "surrogate"),
        ('{"audio_filepath": "a.wav", "speaker": "\\ud800"}', "surrogate"),
        ('{"audio_filepath": "a.wav", "duration": 1' + "0" * 400 + "}", "finite"),
        ('{"audio_filepath": "a.wav", "duration": 1' + "0" * 9000 + "}", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_what_json_can_say_and_no_manifest_means(tmp_path: Path, line: str, told: str) -> None:
    path = write(tmp_path, row(id="u1"), line)
    with pytest.raises(ManifestError, match=told) as caught:
        read_manifest(path)
    assert "line 2" in caught.value.message
    assert len(caught.value.message) < 400
