"""A teacher on disk: what must lie in its directory, checked before anything is loaded.

    config.json                                 the architecture and its sizes
    model.safetensors                           weights, or shards with model.safetensors.index.json
    preprocessor_config.json                    the feature extractor (or processor_config.json)
    generation_config.json                      how decoding starts, where there is one
    ctc_head.safetensors                        an auxiliary CTC head, where there is one
    rescorer.safetensors                        a second pass's decoder, where there is one
    <tokenizer files>

Weights come from safetensors only: a pickle can run code, so it is refused, not converted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdcache.errors import TeacherError
from kdcache.network.decoder_files import RESCORER

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
CTC_HEAD = "ctc_head.safetensors"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
GENERATION = "generation_config.json"


@dataclass(frozen=True, slots=True)
class TeacherDirectory:
    """A directory that holds all that a teacher needs, as far as names can tell.

    Attributes:
        path: the directory.
        config: parsed ``config.json``.
        weights: files of the model's weights, sorted by name.
    """

    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]

    @property
    def name(self) -> str:
        """A name for people."""
        return self.path.resolve().name

    @property
    def ctc_head(self) -> Path | None:
        """Weights of the auxiliary CTC head, or ``None``."""
        head = self.path / CTC_HEAD
        return head if head.is_file() else None

    @property
    def rescorer(self) -> Path | None:
        """Weights of the attention decoder of a second pass, or ``None``."""
        rescorer = self.path / RESCORER
        return rescorer if rescorer.is_file() else None

    @property
    def settings_files(self) -> tuple[Path, ...]:
        """The small files that change the teacher's numbers, sorted by name."""
        names = sorted(("config.json", GENERATION, *PREPROCESSORS))
        return tuple(self.path / name for name in names if (self.path / name).is_file())


def open_directory(path: str | Path) -> TeacherDirectory:
    """Check that ``path`` looks like a teacher and read its ``config.json``.

    Raises:
        TeacherError: the directory or one of its files is missing or unreadable.
    """
    directory = Path(path)
    config = read_config(directory)
    weights = _weight_files(directory)
    if not any((directory / name).is_file() for name in PREPROCESSORS):
        raise TeacherError(
            f"{directory} has no {PREPROCESSORS[0]}; save the model's feature extractor there "
            "with save_pretrained."
        )
    return TeacherDirectory(directory, config, weights)


def read_config(directory: Path) -> dict[str, Any]:
    """Parsed ``config.json`` of a directory.

    Raises:
        TeacherError: there is no directory, no such file, or it is not a JSON object.
    """
    if not directory.is_dir():
        raise TeacherError(
            f"Teacher directory {directory} does not exist; give a local directory that "
            "from_pretrained loads (config.json, model.safetensors, tokenizer files)."
        )
    file = directory / "config.json"
    if not file.is_file():
        raise TeacherError(
            f"{directory} is not a teacher: it has no config.json; give a directory that "
            "from_pretrained loads."
        )
    return _read_object(file)


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TeacherError(f"{file} cannot be read as JSON ({error}); restore it.") from error
    if not isinstance(value, dict):
        raise TeacherError(f"{file} holds a {type(value).__name__}, expected a JSON object.")
    return value


def _weight_files(directory: Path) -> tuple[Path, ...]:
    single, index = directory / WEIGHTS, directory / WEIGHTS_INDEX
    if single.is_file():
        return (single,)
    if index.is_file():
        return _shards(directory, index)
    if list(directory.glob("*.bin")):
        raise TeacherError(
            f"{directory} has its weights only as a pickle (*.bin), which can run code when it "
            f"is opened; convert it to {WEIGHTS} with save_pretrained."
        )
    raise TeacherError(f"{directory} has no weights; {WEIGHTS} was expected there.")


def _shards(directory: Path, index: Path) -> tuple[Path, ...]:
    names = sorted({str(name) for name in _read_object(index).get("weight_map", {}).values()})
    missing = [name for name in names if not (directory / name).is_file()]
    if missing or not names:
        what = f"lacks {missing[0]}" if missing else "lists no weights"
        raise TeacherError(f"{directory} {what} according to {index.name}; copy it again.")
    return tuple(directory / name for name in names)
