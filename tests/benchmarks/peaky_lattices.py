"""Lattices collapsed to blank, label and rest: a trained teacher's, or a stated simulation.

The simulation: a label about every six frames (two, and a Poisson number of mean 3.5). At node
(t, u) the logit of the next label over blank is a ramp of 1.6 a frame through 0 at the frame in
which that label is due, held between −9 and 7, and the rest's is −4.5, higher by 0.5 a column away
from where the alignment is. To both is added noise of deviation 2 that a frame shares with the
next by 0.85. It is as uncertain as the demo's teachers: about 0.2 nats a node of the band. The
band is 5 columns around the alignment.

Shapes: T frames, U labels, S columns of a window; three classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kdcache.codec import LatticeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH = 5
FRAMES = 375
FRAME_SECONDS = 0.04


class Lattices(NamedTuple):
    """Of some utterances.

    Attributes:
        name: whose they are.
        bands, whole: of each utterance.
        seconds: of audio, together.
    """

    name: str
    bands: Sequence[LatticeRecord]
    whole: Sequence[LatticeRecord]
    seconds: float


def simulate(utterances: int, seed: int = 1, frames: int = FRAMES) -> Lattices:
    """Of 15 s each, if not told otherwise."""
    rng = np.random.default_rng(seed)
    pairs = [_utterance(rng, frames) for _ in range(utterances)]
    bands, whole = zip(*pairs, strict=True)
    seconds = utterances * frames * FRAME_SECONDS
    return Lattices("simulated", bands, whole, seconds)


def of_teacher(directory: Path, manifest: Path, utterances: int) -> Lattices:
    """Of a transducer and the first utterances of a manifest."""
    from kdcache.corpus.audio import load_audio
    from kdcache.corpus.manifest import read_manifest
    from kdcache.lattice import BandRule
    from kdcache.target.lattice import collapse_lattice
    from kdcache.teacher import load_teacher

    teacher = load_teacher(directory)
    bands, whole, seconds = [], [], 0.0
    for utterance in read_manifest(manifest)[:utterances]:
        samples = load_audio(utterance.audio, teacher.spec.sample_rate)
        tokens = teacher.tokenizer.encode(utterance.text)
        (output,) = teacher.forward([samples], [tokens])
        assert output.lattice is not None, "no transducer"
        seconds += len(samples) / teacher.spec.sample_rate
        for found, rule in ((bands, BandRule(width=WIDTH)), (whole, BandRule())):
            found.append(collapse_lattice(output.lattice, output.tokens, 0, rule)[0])
    name = f"{directory.parts[-3]}, V = {teacher.spec.vocab_size}"
    return Lattices(name, bands, whole, seconds)


def _utterance(rng: np.random.Generator, frames: int) -> tuple[LatticeRecord, LatticeRecord]:
    """The band and the whole lattice."""
    due_U = np.cumsum(2 + rng.poisson(3.5, frames))
    due_U = due_U[due_U < frames - 3]
    columns = len(due_U) + 1
    frames_T1 = np.arange(frames)[:, None]
    label_TU = (1.6 * (frames_T1 - np.append(due_U, frames))).clip(-9, 7)
    at_T1 = np.searchsorted(due_U, np.arange(frames))[:, None]
    rest_TU = -4.5 + 0.5 * np.abs(np.arange(columns) - at_T1)
    logits_TUC = np.stack([np.zeros(label_TU.shape), label_TU, rest_TU], axis=-1)
    logits_TUC[..., 1:] += _noise(rng, (frames, columns, 2))
    logits_TUC[:, -1, 1] = -np.inf
    logp_TUC = logits_TUC - np.log(np.exp(logits_TUC).sum(-1, keepdims=True))
    starts_T = (at_T1[:, 0] - WIDTH // 2).clip(0, columns - WIDTH).astype(np.int32)
    columns_TS = starts_T[:, None] + np.arange(WIDTH)
    logp_TUC = logp_TUC.astype(np.float32)
    none = np.empty((frames, columns, 0), np.int32)
    band = LatticeRecord(logp_TUC[frames_T1, columns_TS], none[:, :WIDTH], starts_T)
    return band, LatticeRecord(logp_TUC, none)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], shared: float = 0.85) -> np.ndarray:
    """Of deviation 2, frame after frame."""
    noise = 2.0 * rng.normal(size=shape)
    for frame in range(1, shape[0]):
        noise[frame] = shared * noise[frame - 1] + np.sqrt(1 - shared**2) * noise[frame]
    return noise
