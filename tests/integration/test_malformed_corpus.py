"""A thousand malformed inputs among sixty good ones: no good one is lost, each bad one is named."""

from __future__ import annotations

import codecs
import json
import os
import struct
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf

from kdcache.errors import ManifestError
from kdcache.extract import ExtractConfig, prepare
from kdcache.extract.driver import report_of
from kdcache.store import open_cache, verify
from tests.unit.extract.extract_fakes import (
    ADAPTER,
    RATE,
    extract_here,
    save_corpus,
    save_fake_teacher,
)

if TYPE_CHECKING:
    from pathlib import Path

GOOD = 60
EACH = 28
DAY = 86_400.0


def wav(rate: int = RATE, samples: int = 400, claimed: int | None = None) -> bytes:
    """A WAV file of silence by hand, so that its header can claim anything."""
    data = b"\0\0" * samples
    size = len(data) if claimed is None else claimed
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1,
                       rate, rate * 2, 2, 16, b"data", size)  # fmt: skip
    return head + data


def long_flac(folder: Path) -> bytes:
    """A small FLAC file whose header claims 24 hours."""
    sf.write(folder / "short.flac", np.zeros(800), 48_000, format="FLAC")
    raw = bytearray((folder / "short.flac").read_bytes())
    packed = int.from_bytes(raw[18:26], "big") & ~((1 << 36) - 1)
    raw[18:26] = (packed | int(DAY * 48_000)).to_bytes(8, "big")
    return bytes(raw)


def bad_files(folder: Path) -> dict[str, bytes]:
    """Contents that are no audio, or not what a header or manifest says."""
    sf.write(folder / "whole.flac", np.random.default_rng(1).normal(0, 0.1, 4000), RATE)
    flac = (folder / "whole.flac").read_bytes()
    nan = np.full(400, np.nan, np.float32)
    sf.write(folder / "nan.wav", nan, RATE, subtype="FLOAT")
    return {
        "zero-bytes": b"",
        "cut-in-its-header": wav()[:20],
        "cut-flac": flac[: len(flac) // 2],
        "cut-wav": wav(samples=4000)[:4044],
        "no-samples": wav(samples=0),
        "no-audio": b"<html>404</html>",
        "rate-0": wav(rate=0),
        "rate-1": wav(rate=1, samples=40_000),
        "day-in-flac": long_flac(folder),
        "day-in-wav": wav(claimed=int(DAY) * RATE * 2),
        "nan": (folder / "nan.wav").read_bytes(),
    }


def special(folder: Path, kind: str, path: Path) -> None:
    """What stands in a file's place."""
    if kind == "dangling-link":
        path.symlink_to(folder / "nowhere.wav")
    elif kind == "circular-link":
        path.symlink_to(path)
    elif kind == "link-to-a-device":
        path.symlink_to("/dev/zero")
    elif kind == "link-to-a-folder":
        path.symlink_to(folder)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


SPECIAL = (
    "dangling-link",
    "circular-link",
    "link-to-a-device",
    "link-to-a-folder",
    "pipe",
    "folder",
)

ROWS = {
    "day": {"duration": DAY},
    "endless": {"duration": 1e300},
    "backwards": {"duration": -3.0},
    "beyond-the-end": {"offset": 1e300},
    "before-the-start": {"offset": -1.0},
    "odd-text": {"text": "one \u200f\ufffd\U0001f9ff\x00"},
    "blank-text": {"text": "\u3000\t"},
    "other-script": {"text": "\u0440\u0430\u0437 two"},
    "stacked-accents": {"text": "one two" + "\u0301" * 300},
    "private-characters": {"text": "\ue000\U0010fffd"},
    "terminal-codes": {"text": "\x1b[31mone\x07"},
    "length-at-another-rate": {"audio_filepath": "at-16000.wav", "duration": 0.5},
    "nul-in-path": {"audio_filepath": "a\x00b.wav"},
}
"""Rows that a manifest may hold, with a good file, and that no good utterance is like."""

LINES = {
    "duplicate": b'{"id": "u01", "audio_filepath": "u02.wav", "text": "two"}',
    "duplicate-with-other-text": b'{"id": "u03", "audio_filepath": "u03.wav", "text": "five"}',
    "number-for-a-text": b'{"id": "w", "audio_filepath": "u01.wav", "text": 12}',
    "no-json": b'{"id": "x", "audio_filepath": ',
    "no-object": b"[1, 2, 3]",
    "no-utf-8": b'{"id": "\xff\xfe", "audio_filepath": "u01.wav"}',
    "half-a-surrogate": b'{"id": "x\\ud800", "audio_filepath": "u01.wav"}',
    "infinite": b'{"id": "y", "audio_filepath": "u01.wav", "duration": 1e999}',
    "huge": b'{"id": "z", "audio_filepath": "u01.wav", "duration": 1' + b"0" * 400 + b"}",
    "deep": b"[" * 100_000,
}
"""Lines that are no utterance at all."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sixty good utterances, and a thousand that are not, in between."""
    place = tmp_path_factory.mktemp("malformed")
    folder = place / "wav"
    manifest, _ = save_corpus(folder, [4000 + 100 * (i % 20) for i in range(GOOD)])
    lines = manifest.read_bytes().splitlines()
    lines += bad_lines(folder)
    (folder / "u05.wav").rename(folder / "elsewhere.wav")
    (folder / "u05.wav").symlink_to("elsewhere.wav")  # which is as good as a file
    (folder / "at-16000.wav").write_bytes(wav(2 * RATE, samples=4000))
    # The mark that some editors put in front must not cost the first utterance, which is good.
    manifest.write_bytes(codecs.BOM_UTF8 + b"\n".join(interleaved(lines)) + b"\r\n")
    save_fake_teacher(place / "teacher")
    return place


def interleaved(lines: list[bytes]) -> list[bytes]:
    """Good ones among bad ones; the first of a repeated id stays the first."""
    keys = [i * len(lines) / GOOD - 1 if i < GOOD else i for i in range(len(lines))]
    return [lines[i] for i in sorted(range(len(lines)), key=lambda i: keys[i])]


def bad_lines(folder: Path) -> list[bytes]:
    made = []
    for kind, content in bad_files(folder).items():
        for i in range(EACH):
            (folder / f"{kind}-{i}.wav").write_bytes(content)
            made.append(row(f"{kind}-{i}", audio_filepath=f"{kind}-{i}.wav"))
    for kind in SPECIAL:
        for i in range(EACH):
            special(folder, kind, folder / f"{kind}-{i}.wav")
            made.append(row(f"{kind}-{i}", audio_filepath=f"{kind}-{i}.wav"))
    for kind, changes in ROWS.items():
        made += [row(f"{kind}-{i}", **changes) for i in range(EACH)]
    return made + [line for line in LINES.values() for _ in range(EACH)]


def row(name: str, **changes: object) -> bytes:
    values = {"id": name, "audio_filepath": "u00.wav", "text": "one two", **changes}
    return json.dumps(values).encode()


def config(place: Path, name: str = "cache", **changes: object) -> ExtractConfig:
    settings = {
        "teacher": {"path": place / "teacher", "adapter": ADAPTER},
        "corpus": place / "wav" / "manifest.jsonl",
        "cache": {"path": str(place / name)},
        "targets": ["lattice"],
        "batch_seconds": 8.0,
        "unit_utterances": 200,
        "bad_lines": "skip",
    }
    return ExtractConfig.model_validate({**settings, **changes})


@pytest.fixture(scope="module")
def report(place):
    extract_here(config(place))
    ready = prepare(config(place))
    assert ready.plan.units == (), "something is neither done nor recorded"
    return report_of(config(place), ready, 1.0)


def test_there_are_a_thousand(report):
    assert sum(map(len, report.failed.values())) + len(report.bad_lines) >= 1000


def test_every_good_utterance_is_as_it_would_be_alone(place, report):
    assert report.left == ()
    cache = open_cache(place / "cache")
    assert cache.ids == [f"u{i:02d}" for i in range(GOOD)]
    assert verify(place / "cache") == []
    manifest, _ = save_corpus(place / "good", [4000 + 100 * (i % 20) for i in range(GOOD)])
    alone = extract_here(config(place, "alone", corpus=manifest, unit_utterances=7))
    checksums = [c.catalogue.select(["id", "checksum"]).to_pylist() for c in (cache, alone)]
    assert checksums[0] == checksums[1]


def test_each_bad_one_is_recorded_under_its_id_in_one_sentence(report):
    kinds = Counter(name.rpartition("-")[0] for ids in report.failed.values() for name in ids)
    files = {"zero-bytes", "cut-in-its-header", "cut-flac", "cut-wav", "no-samples", "no-audio",
             "rate-0", "rate-1", "day-in-flac", "day-in-wav", "nan"}  # fmt: skip
    assert kinds == dict.fromkeys([*files, *SPECIAL, *ROWS], EACH)
    assert set(report.failed) == {"audio", "transcript"}, "an error that nobody expected"
    assert all(message and "\n" not in message for message in report.messages.values())
    assert "device or a pipe" in report.messages["pipe-0"]


def test_each_bad_line_is_told_with_its_number(place, report):
    assert len(report.bad_lines) == EACH * len(LINES)
    lines = (place / "wav" / "manifest.jsonl").read_bytes().splitlines()
    assert all("\n" not in line.why and len(line.why) < 400 for line in report.bad_lines)
    first = report.bad_lines[0]
    assert first.where in first.why
    assert lines[int(first.where.rpartition(" ")[2]) - 1] in LINES.values()


def test_the_cache_is_not_called_complete(report):
    assert not report.complete
    unusable = EACH * len(LINES)
    assert any(line.startswith(f"unusable lines: {unusable}") for line in report.lines())
    assert len(report.to_dict()["bad_lines"]) == len(report.bad_lines)


def test_unless_it_is_asked_for_nothing_is_passed_over(place):
    with pytest.raises(ManifestError, match="line"):
        prepare(config(place, "strict", bad_lines="refuse"))
    assert not (place / "strict").exists()
