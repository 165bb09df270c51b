"""What a cache is made of: teacher, tokenizer, targets with their codecs, and audio.

Two extractions with equal specs may write into one cache; anything else may not. The spec
says nothing of the layout, the corpus or the machines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kdcache.codec import ColumnSpec, check_vocabulary, make_codec
from kdcache.errors import ConfigError, did_you_mean
from kdcache.types import TargetSpec, TeacherSpec, fingerprint_of

if TYPE_CHECKING:
    from kdcache.codec import RecordCodec

FORMAT_VERSION = 1
_LONGEST = 100
"""Characters of a setting in a message."""

AUDIO = "audio"
AUDIO_COLUMN = ColumnSpec("uint8", 1)

DTYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""Types of elements that a column may have, by numpy's names."""

# webdataset lower-cases extensions and splits keys at dots.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class CacheSpec:
    """What a cache is made of.

    Attributes:
        teacher: whose belief it holds.
        tokenizer: fingerprint of the tokenizer.
        targets: what is kept.
        audio: ``none``, or ``flac`` where each utterance has a FLAC file in it.
        format_version: of the cache's files.
    """

    teacher: TeacherSpec
    tokenizer: str
    targets: tuple[TargetSpec, ...]
    audio: str = "none"
    format_version: int = FORMAT_VERSION

    @cached_property
    def spec_hash(self) -> str:
        """Hex SHA-256 of :meth:`to_dict`, taken once: codebooks may be megabytes."""
        return fingerprint_of(self.to_dict())

    def target(self, name: str) -> TargetSpec:
        """The target of that name; ConfigError where there is none."""
        for target in self.targets:
            if target.name == name:
                return target
        known = [target.name for target in self.targets]
        hint = did_you_mean(name, known)
        raise ConfigError(
            f"the cache has no target {name!r}; it has: {', '.join(known) or 'none'}.{hint}"
        )

    def codec(self, name: str, *, allow_import: bool = True) -> RecordCodec:
        """The codec of the target ``name``; see ``make_codec`` for ``allow_import``."""
        target = self.target(name)
        return make_codec(target.record, target.codec, allow_import=allow_import)

    def columns(self, *, allow_import: bool = True) -> dict[str, ColumnSpec]:
        """Every stored array, as ``<target>.<array>``, and ``audio``; sorted by name."""
        columns = {
            f"{target.name}.{array}": column
            for target in self.targets
            for array, column in self.codec(target.name, allow_import=allow_import)
            .columns()
            .items()
        }
        if self.audio != "none":
            columns[AUDIO] = AUDIO_COLUMN
        return dict(sorted(columns.items()))

    def normalised(self, *, allow_import: bool = True) -> CacheSpec:
        """The same with every codec setting spelt out, so that equal caches compare equal.

        Args:
            allow_import: see ``make_codec``.

        Raises:
            ConfigError: a name, codec, audio setting or vocabulary that cannot be used.
        """
        _check_names(self.targets)
        if self.audio not in ("none", "flac"):
            hint = did_you_mean(self.audio, ("none", "flac"))
            raise ConfigError(f"expected audio 'none' or 'flac', got {self.audio!r}.{hint}")
        targets = tuple(
            replace(t, codec=self.codec(t.name, allow_import=allow_import).to_dict())
            for t in self.targets
        )
        spec = replace(self, targets=targets)
        columns = spec.columns(allow_import=allow_import)
        for name, column in columns.items():
            if column.ndim < 1 or column.dtype not in DTYPES:
                raise ConfigError(
                    f"column {name} cannot be stored: expected one axis or more of a plain "
                    f"number type, got {column}"
                )
        ids = [column for name, column in columns.items() if name.endswith(".ids")]
        if any(column.dtype == "uint16" for column in ids):
            check_vocabulary(self.teacher.vocab_size)
        return spec

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "format_version": self.format_version,
            "teacher": self.teacher.to_dict(),
            "tokenizer": self.tokenizer,
            "targets": [target.to_dict() for target in self.targets],
            "audio": self.audio,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CacheSpec:
        """Inverse of :meth:`to_dict`."""
        return cls(
            teacher=TeacherSpec.from_dict(data["teacher"]),
            tokenizer=data["tokenizer"],
            targets=tuple(TargetSpec.from_dict(target) for target in data["targets"]),
            audio=data["audio"],
            format_version=data["format_version"],
        )


def first_difference(stored: Any, asked: Any, path: str = "") -> str | None:
    """``teacher.name is 'a' in the cache, 'b' was asked for``, or ``None`` where equal."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        for key in sorted({*stored, *asked}):
            found = first_difference(
                stored.get(key), asked.get(key), f"{path}.{key}" if path else key
            )
            if found:
                return found
        return None
    if isinstance(stored, list) and isinstance(asked, list) and len(stored) == len(asked):
        pairs = enumerate(zip(stored, asked, strict=True))
        found_in = (first_difference(a, b, f"{path}[{i}]") for i, (a, b) in pairs)
        return next((found for found in found_in if found), None)
    if stored == asked:
        return None
    return f"{path} is {_shown(stored)} in the cache, {_shown(asked)} was asked for"


def _shown(value: Any) -> str:
    """As Python writes it, without the middle where it is long: a table may be megabytes."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-8:]}"


def _check_names(targets: tuple[TargetSpec, ...]) -> None:
    seen = {AUDIO}
    for target in targets:
        if not _NAME.fullmatch(target.name):
            raise ConfigError(f"expected a target's name of a–z, 0–9, _ and -, got {target.name!r}")
        if target.name in seen:
            raise ConfigError(f"two targets are named {target.name!r}; names must differ")
        seen.add(target.name)
