"""The error tree: every failure that a user or a program may want to handle.

    KdcacheError                     exit 1
    ├── InputError                   exit 2: what was given cannot be used; nothing was changed
    │   ├── ConfigError              a setting is unknown, missing or out of range
    │   ├── ManifestError            a corpus manifest cannot be read
    │   ├── TokenizerError           a tokenizer cannot be loaded or does not match
    │   ├── TeacherError             a teacher directory cannot be used
    │   ├── UnsupportedTargetError   the teacher cannot give what was asked for
    │   ├── NotACacheError           the path holds no cache
    │   ├── NewerFormatError         the cache was written by a newer kdcache
    │   ├── SpecMismatchError        the cache was made with other settings
    │   ├── UnfitStorageError        commits are not safe on the storage
    │   ├── UnknownUtteranceError    no utterance with that id
    │   └── MissingDependencyError   an optional package is not installed
    ├── UtteranceError               one utterance cannot be used; recorded, the others go on
    │   ├── AudioError               audio is missing, truncated or empty
    │   ├── TranscriptError          text is empty or cannot be spelt by the tokenizer
    │   ├── TeacherOutputError       the teacher gave NaN or an impossible shape
    │   └── TeacherMemoryError       it does not fit in memory, even by itself
    ├── StorageError                 the storage failed
    │   └── StorageFullError         there is no room left; what was written stays
    ├── DamagedCacheError            stored bytes are not what was written
    └── IncompleteCacheError         exit 3: some utterances of the corpus are not in the cache

Errors cross process borders, so every class survives pickling: the arguments of
``__init__`` are exactly ``args``. A message says what was got, what was expected and what
to do. ``code`` is stable: it is what catalogues and logs record.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class KdcacheError(Exception):
    """Base of every error that kdcache raises on purpose."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The one sentence to show."""
        return str(self.args[0])


class InputError(KdcacheError):
    """What was given cannot be used; nothing was changed."""

    code = "input"
    exit_code = 2


class ConfigError(InputError):
    """A setting is unknown, missing or out of range."""

    code = "config"


class ManifestError(InputError):
    """A corpus manifest cannot be read."""

    code = "manifest"


class TokenizerError(InputError):
    """A tokenizer cannot be loaded, or is not the one that was used before."""

    code = "tokenizer"


class TeacherError(InputError):
    """A teacher directory cannot be used."""

    code = "teacher"


class UnsupportedTargetError(InputError):
    """The teacher cannot give what was asked for."""

    code = "unsupported-target"


class NotACacheError(InputError):
    """The path holds no cache."""

    code = "not-a-cache"


class NewerFormatError(InputError):
    """The cache was written by a newer kdcache."""

    code = "newer-format"


class SpecMismatchError(InputError):
    """The cache was made with another teacher, tokenizer, target or codec."""

    code = "spec-mismatch"


class UnfitStorageError(InputError):
    """The storage lets two writers create one file, so that commits are not safe on it."""

    code = "unfit-storage"


class UnknownUtteranceError(InputError):
    """No utterance with that id."""

    code = "unknown-utterance"


class MissingDependencyError(InputError):
    """An optional package is not installed."""

    code = "missing-dependency"


class UtteranceError(KdcacheError):
    """One utterance cannot be used; it is recorded and the others go on."""

    code = "utterance"


class AudioError(UtteranceError):
    """Audio is missing, truncated or empty."""

    code = "audio"


class TranscriptError(UtteranceError):
    """Text is empty or cannot be spelt by the tokenizer."""

    code = "transcript"


class TeacherOutputError(UtteranceError):
    """The teacher gave NaN or a shape that cannot be."""

    code = "teacher-output"


class TeacherMemoryError(UtteranceError):
    """The teacher's memory does not suffice for the utterance, even by itself."""

    code = "memory"


class StorageError(KdcacheError):
    """The storage failed."""

    code = "storage"


class StorageFullError(StorageError):
    """There is no room left; nothing half-written is visible, and what was written stays."""

    code = "storage-full"


class DamagedCacheError(KdcacheError):
    """Stored bytes are not what was written."""

    code = "damaged"


class IncompleteCacheError(KdcacheError):
    """Some utterances of the corpus are not in the cache."""

    code = "incomplete"
    exit_code = 3


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The ``count`` names of ``known`` most like ``name``, best first; may be empty."""
    return get_close_matches(name, list(known), n=count, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with a leading blank, or the empty string."""
    found = nearest(name, known)
    return f" Did you mean {found[0]!r}?" if found else ""
