"""The error tree: its shape, its codes, and that every error crosses a process border."""

from __future__ import annotations

import pickle
import re

import pytest

from kdcache import errors
from kdcache.errors import KdcacheError, did_you_mean, nearest

CODES = {
    "AudioError": "audio",
    "ConfigError": "config",
    "DamagedCacheError": "damaged",
    "IncompleteCacheError": "incomplete",
    "InputError": "input",
    "KdcacheError": "error",
    "ManifestError": "manifest",
    "MissingDependencyError": "missing-dependency",
    "NewerFormatError": "newer-format",
    "NotACacheError": "not-a-cache",
    "SpecMismatchError": "spec-mismatch",
    "StorageError": "storage",
    "StorageFullError": "storage-full",
    "TeacherError": "teacher",
    "TeacherMemoryError": "memory",
    "TeacherOutputError": "teacher-output",
    "TokenizerError": "tokenizer",
    "TranscriptError": "transcript",
    "UnfitStorageError": "unfit-storage",
    "UnknownUtteranceError": "unknown-utterance",
    "UnsupportedTargetError": "unsupported-target",
    "UtteranceError": "utterance",
}
"""Catalogues and logs record these: a code may be added, never changed."""


def tree(base: type[KdcacheError]) -> list[type[KdcacheError]]:
    """``base`` and all below it in this module."""
    below = [kind for kind in base.__subclasses__() if kind.__module__ == errors.__name__]
    return [base, *(kind for child in below for kind in tree(child))]


ALL = tree(KdcacheError)


def test_codes_are_pinned() -> None:
    assert {kind.__name__: kind.code for kind in ALL} == CODES


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in ALL}) == len(ALL)


def test_the_module_s_drawing_is_the_tree() -> None:
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r" {4}([│├└─ ]*)(\w+Error)\b", line)
        if found:
            drawn.append((len(found[1]) // 4, found[2]))
    real = [(len(kind.__mro__) - len(KdcacheError.__mro__), kind.__name__) for kind in ALL]
    assert drawn == real


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling(kind: type[KdcacheError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("got 3, expected 4")))
    assert type(copy) is kind
    assert copy.args == ("got 3, expected 4",)
    assert copy.message == "got 3, expected 4"
    assert (copy.code, copy.exit_code) == (kind.code, kind.exit_code)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_exit_codes_follow_the_tree(kind: type[KdcacheError]) -> None:
    if issubclass(kind, errors.InputError):
        expected = 2
    elif kind is errors.IncompleteCacheError:
        expected = 3
    else:
        expected = 1
    assert kind.exit_code == expected


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_is(kind: type[KdcacheError]) -> None:
    assert (kind.__doc__ or "").endswith(".")


def test_an_error_that_is_caught_by_its_base() -> None:
    with pytest.raises(errors.InputError, match="no such key"):
        raise errors.ConfigError("no such key")


def test_nearest_is_best_first() -> None:
    assert nearest("latice", ["hidden", "lattices", "lattice"], count=2) == ["lattice", "lattices"]


def test_nearest_of_nothing_alike() -> None:
    assert nearest("xyz", ["lattice", "hidden"]) == []


@pytest.mark.parametrize(
    ("name", "hint"), [("latice", " Did you mean 'lattice'?"), ("xyz", ""), ("", "")]
)
def test_did_you_mean(name: str, hint: str) -> None:
    assert did_you_mean(name, iter(["lattice", "hidden"])) == hint
