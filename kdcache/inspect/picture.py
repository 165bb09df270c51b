"""What a picture of one utterance shows, worked out of its cache: numbers and words, no drawing.

Shapes: N samples, T encoder frames, U labels (a node axis has U+1 entries), V vocabulary, R classes
that are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdcache.errors import ConfigError
from kdcache.inspect.belief import read_belief
from kdcache.inspect.divergence import spread
from kdcache.inspect.occupancy import occupancy
from kdcache.inspect.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.codec import LatticeRecord
    from kdcache.inspect.belief import Belief
    from kdcache.store import Cache

    Spell = Callable[[Sequence[int]], str]

CLASSES = 24
"""Rows of the posteriors that are shown at most."""

SEEN = 0.05
"""Probability that a class reaches somewhere to be shown."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Audio as the teacher heard it.

    Attributes:
        samples_N: float32, about [−1, 1].
        rate: Hz.
    """

    samples_N: np.ndarray
    rate: int


@dataclass(frozen=True, slots=True)
class Posteriors:
    """Classes of the encoder over time.

    Attributes:
        target: that they are of.
        pieces: text of each class, in the order in which they appear; blank first.
        p_RT: float64, probability of each in each frame.
    """

    target: str
    pieces: tuple[str, ...]
    p_RT: np.ndarray


@dataclass(frozen=True, slots=True)
class Nodes:
    """A lattice.

    Attributes:
        target: that it is of.
        gamma_TU: float64, share of the teacher's paths through each node.
        first_T, last_T: int64, columns between which a band holds nodes, both among them;
            ``None`` of a whole lattice.
        path_T2: int64, nodes (t, u) of the best path; empty where there is none.
    """

    target: str
    gamma_TU: np.ndarray
    first_T: np.ndarray | None
    last_T: np.ndarray | None
    path_T2: np.ndarray


@dataclass(frozen=True, slots=True)
class Picture:
    """Of one utterance; a part that its cache does not tell is ``None``.

    Attributes:
        id, text: as in the manifest.
        seconds: of audio, measured.
        frame_shift: seconds between two encoder frames.
        belief: labels in time, entropy, disagreements.
        sound, posteriors, nodes: the parts.
    """

    id: str
    text: str
    seconds: float
    frame_shift: float
    belief: Belief
    sound: Sound | None
    posteriors: Posteriors | None
    nodes: Nodes | None


def read_picture(cache: Cache, key: str, spell: Spell, sound: Sound | None = None) -> Picture:
    """Read what there is to show of an utterance.

    Args:
        cache: an open cache.
        key: id of a good utterance.
        spell: text of label ids.
        sound: its audio, where that is to be had.

    Raises:
        UnknownUtteranceError, DamagedCacheError: see ``Cache.read_target``.
        ConfigError: there is nothing to show.
    """
    row = cache.row_of(key)
    told = cache.catalogue_columns(["text", "duration", "tokens"])
    piece = Pieces(spell, told["tokens"][row].as_py(), cache.spec.teacher.blank_id)
    belief = read_belief(cache, key, spell)
    if sound is None and not belief.frames and belief.aligned_by is None:
        more = f" ({'; '.join(belief.notes)})" if belief.notes else ""
        raise ConfigError(
            f"there is nothing to draw of {key!r}: {cache.location} has neither a lattice nor "
            f"posteriors of it that can be read{more}; name its audio with --manifest."
        )
    return Picture(
        id=key,
        text=told["text"][row].as_py() or "",
        seconds=told["duration"][row].as_py(),
        frame_shift=cache.spec.teacher.frame_shift,
        belief=belief,
        sound=sound,
        posteriors=_posteriors(cache, row, belief, piece),
        nodes=_nodes(cache, row, belief),
    )


def _posteriors(
    cache: Cache, row: int, belief: Belief, piece: Callable[[int], str]
) -> Posteriors | None:
    name = belief.frames_of
    if name is None or cache.spec.target(name).record != "posterior":
        return None
    teacher = cache.spec.teacher
    p_TV = np.exp(spread(cache.read_target(row, name), teacher.vocab_size))  # type: ignore[arg-type]
    shown = _shown(p_TV, teacher.blank_id)
    return Posteriors(name, tuple(map(piece, shown)), p_TV[:, shown].T)


def _shown(p_TV: np.ndarray, blank: int | None) -> list[int]:
    """Classes that matter somewhere, as they first come near their highest, blank before all."""
    peak_V = p_TV.max(axis=0)
    first_V = (p_TV >= peak_V / 2).argmax(axis=0)
    best = np.argsort(-peak_V, kind="stable")[:CLASSES]
    kept = [int(v) for v in best if peak_V[v] >= SEEN or v == best[0]]
    return sorted(kept, key=lambda v: (v != blank, int(first_V[v]), v))


def _nodes(cache: Cache, row: int, belief: Belief) -> Nodes | None:
    name = belief.aligned_by
    if name is None or cache.spec.target(name).record != "lattice":
        return None
    lattice: LatticeRecord = cache.read_target(row, name)  # type: ignore[assignment]
    first_T = last_T = None
    if lattice.starts_T is not None:
        first_T = lattice.starts_T.astype(np.int64)
        last_T = first_T + lattice.logp_TSC.shape[1] - 1
    frames_U = [token.frame for token in belief.tokens]
    whole = len(frames_U) == lattice.labels
    path_T2 = _path(len(lattice.logp_TSC), frames_U) if whole else np.empty((0, 2), np.int64)
    return Nodes(name, occupancy(lattice), first_T, last_T, path_T2)


def _path(frames: int, frames_U: list[int]) -> np.ndarray:
    """Every node that a path enters, in its order: int64 (T+U, 2)."""
    nodes, u = [], 0
    for t in range(frames):
        nodes.append((t, u))
        while u < len(frames_U) and frames_U[u] == t:
            u += 1
            nodes.append((t, u))
    return np.array(nodes, np.int64)
