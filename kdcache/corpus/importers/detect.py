"""Recognise a corpus's format by what is there, never by its name alone."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

from kdcache.errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("nemo", "lhotse", "kaldi", "librispeech", "datasets")

_CUT_KEYS = {"recording", "supervisions", "tracks"}


def detect_format(source: Path) -> str:
    """The format of a file or folder, one of ``FORMATS``.

    Raises:
        ManifestError: it is none of them; the sentence says what was looked for.
    """
    return _format_of_folder(source) if source.is_dir() else _format_of_file(source)


def _format_of_folder(folder: Path) -> str:
    if (folder / "wav.scp").exists():
        return "kaldi"
    if (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists():
        return "datasets"
    if next(folder.rglob("*.trans.txt"), None) is not None:
        return "librispeech"
    raise ManifestError(
        f"{folder} is no corpus that is known: there is no wav.scp (Kaldi), no *.trans.txt "
        "(LibriSpeech) and no dataset_info.json (Hugging Face datasets)."
    )


def _format_of_file(path: Path) -> str:
    row = _first_row(path)
    if isinstance(row, dict) and "audio_filepath" in row:
        return "nemo"
    if isinstance(row, dict) and (_CUT_KEYS & row.keys() or str(row.get("type")).endswith("Cut")):
        return "lhotse"
    raise ManifestError(
        f"{path} is no manifest that is known: its first line is neither a JSON object with "
        "'audio_filepath' (NeMo) nor a Lhotse cut."
    )


def _first_row(path: Path) -> Any:
    """The first line that is not blank, as JSON; ``None`` where it is none."""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with (
            gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8") as f
        ):
            return json.loads(next((line for line in f if line.strip()), "null"))
    except (UnicodeDecodeError, ValueError, EOFError, gzip.BadGzipFile):
        return None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from error
