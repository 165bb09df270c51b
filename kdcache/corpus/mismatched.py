"""Utterances with one another's audio: a control for what a student learns from a teacher.

Each keeps its id, its text and its number of samples, and gets the audio of another one that is
about as long, cut or continued with silence to the length of its own. A teacher that is
conditioned on the text gives targets of the right shape for it that tell nothing of what is
heard; a student that gains from these as well gains from something else than the teacher's
knowledge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kdcache.corpus.audio import encode_flac, load_audio, to_int16
from kdcache.corpus.manifest import write_manifest
from kdcache.errors import InputError
from kdcache.types import AudioRef

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcache.types import Utterance

SAMPLE_RATE = 16_000
"""Hz of what is written."""


def write_mismatched(utterances: Sequence[Utterance], manifest: Path) -> list[Utterance]:
    """Write audio beside ``manifest`` and the manifest itself.

    Args:
        utterances: at least two.
        manifest: file to write; audio goes to a folder of its name without ``.jsonl``.

    Returns:
        The utterances in the order of ``utterances``.

    Raises:
        InputError: there is only one utterance.
        AudioError: audio cannot be read.
    """
    if len(utterances) < 2:
        raise InputError("One utterance alone cannot get another's audio; give at least two.")
    folder = manifest.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    other = _neighbours(utterances)
    written = [
        _mismatched(u, other[u.id], folder / f"{n:06d}.flac") for n, u in enumerate(utterances)
    ]
    write_manifest(manifest, written)
    return written


def _neighbours(utterances: Sequence[Utterance]) -> dict[str, Utterance]:
    """For each, the next in length with another text, the shortest after the longest."""
    ordered = sorted(utterances, key=lambda u: (u.duration, u.id))
    found = {}
    for place, one in enumerate(ordered):
        others = (*ordered[place + 1 :], *ordered[:place])
        found[one.id] = next((u for u in others if u.text != one.text), others[0])
    return found


def _mismatched(utterance: Utterance, other: Utterance, path: Path) -> Utterance:
    length = len(load_audio(utterance.audio, SAMPLE_RATE))
    samples = load_audio(other.audio, SAMPLE_RATE)[:length]
    padded = np.pad(samples, (0, length - len(samples)))
    path.write_bytes(encode_flac(to_int16(padded), SAMPLE_RATE))
    return replace(utterance, audio=AudioRef(str(path), 0.0, length / SAMPLE_RATE))
