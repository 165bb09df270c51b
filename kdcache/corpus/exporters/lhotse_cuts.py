"""Lhotse cuts with a teacher's arrays attached.

    FOLDER/cuts.jsonl      a MonoCut a line; arrays are its custom fields
    FOLDER/arrays/         their contents, one npy file an array

``CutSet.from_file("FOLDER/cuts.jsonl")`` reads them; ``cut.load_lattice_logp()`` gives the array
that kdcache calls lattice.logp, cut and padded with the cut where it has a time axis.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kdcache.corpus.audio import read_header
from kdcache.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np

    from kdcache.types import Utterance

CUTS = "cuts.jsonl"
ARRAYS = "arrays"


@dataclass(frozen=True, slots=True)
class Attached:
    """One utterance.

    Attributes:
        utterance: which, and where its audio is.
        duration: seconds that are heard.
        tokens: label ids.
        arrays: by name.
        timed: names of those whose first axis is encoder frames.
        frame_shift: seconds between two encoder frames.
    """

    utterance: Utterance
    duration: float
    tokens: list[int]
    arrays: dict[str, np.ndarray]
    timed: frozenset[str]
    frame_shift: float


def write_lhotse(folder: Path, items: Iterable[Attached]) -> int:
    """Write cuts and arrays; returns how many cuts.

    Raises:
        MissingDependencyError: lhotse is not installed.
        AudioError: an audio file cannot be read.
    """
    writer = _array_writer(folder / ARRAYS)
    count = 0
    partial = folder / f".{CUTS}.partial"
    with partial.open("w", encoding="utf-8") as file:
        for item in items:
            cut = _cut(item)
            cut.custom = {"tokens": item.tokens, **_stored(writer, item, cut.start)}
            file.write(json.dumps(cut.to_dict(), ensure_ascii=False) + "\n")
            count += 1
    partial.replace(folder / CUTS)
    return count


def _array_writer(folder: Path) -> Any:
    try:
        from lhotse import NumpyFilesWriter
    except ImportError as error:
        raise MissingDependencyError(
            f"Lhotse cuts need lhotse: pip install 'kdcache[lhotse]' ({error})."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    return NumpyFilesWriter(str(folder.resolve()))


def _cut(item: Attached) -> Any:
    """A MonoCut without arrays."""
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    utterance, audio = item.utterance, item.utterance.audio
    header = read_header(audio.path)
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource("file", [0], audio.path)],
        sampling_rate=header.sample_rate,
        num_samples=header.frames,
        duration=header.duration,
    )
    if audio.speed != 1:
        recording = recording.perturb_speed(audio.speed, affix_id=False)
    start = audio.offset / audio.speed
    duration = min(item.duration, recording.duration - start)
    said = SupervisionSegment(
        utterance.id, recording.id, 0.0, duration, text=utterance.text, speaker=utterance.speaker
    )
    return MonoCut(
        utterance.id, start, duration, channel=0, supervisions=[said], recording=recording
    )


def _stored(writer: Any, item: Attached, start: float) -> dict[str, Any]:
    found = {}
    for name, array in item.arrays.items():
        key = quote(f"{item.utterance.id}.{name}", safe="").replace(".", "%2E")
        time = (
            {"frame_shift": item.frame_shift, "temporal_dim": 0, "start": start}
            if name in item.timed
            else {}
        )
        found[name.replace(".", "_")] = writer.store_array(key, array, **time)
    return found
