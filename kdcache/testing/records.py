"""Random records: seeded ones for tests of stores, hypothesis strategies for codecs.

Shapes: T encoder frames, U labels, K kept classes, N frames or tokens, V vocabulary,
C classes, D hidden size, H hypotheses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.codec import (
    HypothesesRecord,
    LatticeRecord,
    PosteriorRecord,
    ScoreRecord,
    VectorRecord,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from kdcache.codec import Record


def random_logp(
    rng: np.random.Generator, shape: tuple[int, ...], spread: float = 4.0
) -> np.ndarray:
    """float32 log-probabilities, normalised over the last axis.

    Args:
        rng: source of randomness.
        shape: of the array, classes last.
        spread: standard deviation of the logits; large gives peaky rows.
    """
    return normalise(rng.normal(size=shape) * spread)


def normalise(logits: np.ndarray) -> np.ndarray:
    """float32 log-softmax over the last axis, computed in float64."""
    exact = np.asarray(logits, np.float64)
    exact = exact - exact.max(axis=-1, keepdims=True)
    logp: np.ndarray = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    return logp.astype(np.float32)


def random_lattice(
    rng: np.random.Generator, frames: int, labels: int, kept: int, vocab: int = 100
) -> LatticeRecord:
    """A lattice of T = ``frames``, U = ``labels``, K = ``kept``; no label in column U."""
    logits = rng.normal(size=(frames, labels + 1, kept + 3)) * 4
    logits[:, labels, 1] = -np.inf
    ids = _distinct_ids(rng, (frames, labels + 1), kept, vocab)
    return LatticeRecord(normalise(logits), ids)


def random_band(rng: np.random.Generator, kept: int = 2, vocab: int = 100) -> LatticeRecord:
    """A small banded lattice, T, U and S random too; a row without label at column U."""
    frames, width = int(rng.integers(1, 12)), int(rng.integers(2, 6))
    steps_T = rng.integers(0, width, size=frames)
    steps_T[0] = 0
    starts_T = steps_T.cumsum().astype(np.int32)
    logits = rng.normal(size=(frames, width, kept + 3)) * 4
    logits[starts_T == starts_T[-1], -1, 1] = -np.inf
    ids = _distinct_ids(rng, (frames, width), kept, vocab)
    return LatticeRecord(normalise(logits), ids, starts_T)


def random_posterior(
    rng: np.random.Generator, length: int, kept: int, vocab: int = 100
) -> PosteriorRecord:
    """Posteriors of N = ``length`` frames or tokens, K = ``kept``, likeliest first."""
    logp_NC = random_logp(rng, (length, kept + 1))
    logp_NC[:, :-1] = -np.sort(-logp_NC[:, :-1], axis=-1)
    return PosteriorRecord(logp_NC, _distinct_ids(rng, (length,), kept, vocab))


def random_vector(rng: np.random.Generator, frames: int, width: int) -> VectorRecord:
    """Normal values of T = ``frames``, D = ``width``."""
    return VectorRecord(rng.normal(size=(frames, width)).astype(np.float32))


def random_score(rng: np.random.Generator) -> ScoreRecord:
    """A log-probability."""
    return ScoreRecord(-rng.exponential(20, size=1).astype(np.float32))


def random_hypotheses(
    rng: np.random.Generator, count: int, longest: int = 9, vocab: int = 100
) -> HypothesesRecord:
    """H = ``count`` label sequences, best first; their lengths random too."""
    scores_H = -np.sort(rng.exponential(20, size=count)).astype(np.float32)
    lengths_H = rng.integers(0, longest + 1, size=count).astype(np.int32)
    return HypothesesRecord(scores_H, lengths_H, _ids(rng, int(lengths_H.sum()), vocab))


def random_record(rng: np.random.Generator, kind: str) -> Record:
    """A small record of that kind (``lattice``, ``posterior``, ``vector``, ``score``,
    ``hypotheses``), sizes random too."""
    length, labels = int(rng.integers(1, 12)), int(rng.integers(0, 6))
    if kind == "lattice":
        return random_lattice(rng, length, labels, kept=2)
    if kind == "posterior":
        return random_posterior(rng, length, kept=3)
    if kind == "score":
        return random_score(rng)
    if kind == "hypotheses":
        return random_hypotheses(rng, labels)
    return random_vector(rng, length, width=4)


def records(kind: str) -> SearchStrategy[Record]:
    """Hypothesis strategy of records of that kind: edge sizes, zero probabilities, wide ranges."""
    from hypothesis import strategies as st

    drawers = {
        "lattice": _lattices,
        "posterior": _posteriors,
        "vector": _vectors,
        "score": _scores,
        "hypotheses": _hypotheses,
    }
    strategy: SearchStrategy[Record] = st.composite(drawers[kind])()
    return strategy


def ragged_posteriors(vocab: int = 65_534) -> SearchStrategy[PosteriorRecord]:
    """Hypothesis strategy of posteriors whose rows keep as many classes as they like.

    They are as a target makes them: by decreasing probability, −inf and id −1 in the slots
    that a row does not use, and no slot that every row leaves free.
    """
    from hypothesis import strategies as st

    strategy: SearchStrategy[PosteriorRecord] = st.composite(_ragged)(vocab)
    return strategy


def _ragged(draw: Any, vocab: int) -> PosteriorRecord:
    from hypothesis import strategies as st

    length, slots = draw(st.integers(0, 8)), draw(st.integers(0, min(6, vocab)))
    logp_NC = _draw_logp(draw, (length, slots + 1))
    logp_NC[:, :-1] = -np.sort(-logp_NC[:, :-1], axis=-1)
    absent_NK = np.isneginf(logp_NC[:, :-1])
    row = st.lists(st.integers(0, vocab - 1), min_size=slots, max_size=slots, unique=True)
    drawn = [draw(row) for _ in range(length)]
    ids_NK = np.array(drawn, np.int32).reshape(length, slots)
    ids_NK[absent_NK] = -1
    kept = int((~absent_NK).sum(-1).max(initial=0))
    return PosteriorRecord(np.delete(logp_NC, np.s_[kept:-1], axis=1), ids_NK[:, :kept])


def _lattices(draw: Any) -> Record:
    from hypothesis import strategies as st

    frames, width, kept = draw(st.integers(0, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 5))
    logp_TSC = _draw_logp(draw, (frames, width, kept + 3))
    starts_T = draw(st.none() | _starts(frames, width)) if frames else None
    ids_TSK = _without_repeats(_draw_ids(draw, (frames, width, kept)))
    return LatticeRecord(logp_TSC, ids_TSK, starts_T)


def _starts(frames: int, width: int) -> SearchStrategy[np.ndarray]:
    """Starts of connected windows."""
    from hypothesis import strategies as st

    steps = st.lists(st.integers(0, width - 1), min_size=frames - 1, max_size=frames - 1)
    return steps.map(lambda found: np.cumsum([0, *found]).astype(np.int32))


def _posteriors(draw: Any) -> Record:
    from hypothesis import strategies as st

    length, kept = draw(st.integers(0, 8)), draw(st.integers(0, 6))
    return PosteriorRecord(_draw_logp(draw, (length, kept + 1)), _draw_ids(draw, (length, kept)))


def _vectors(draw: Any) -> Record:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    shape = (draw(st.integers(0, 6)), draw(st.integers(1, 5)))
    values = st.floats(-6e4, 6e4, width=32)
    return VectorRecord(draw(hnp.arrays(np.float32, shape, elements=values)))


def _scores(draw: Any) -> Record:
    from hypothesis import strategies as st

    score = draw(st.floats(-(2.0**100), 0, width=32) | st.just(float("-inf")))
    return ScoreRecord(np.array([score], np.float32))


def _hypotheses(draw: Any) -> Record:
    from hypothesis import strategies as st

    score = st.floats(-(2.0**100), 0, width=32) | st.just(float("-inf"))
    scores_H = sorted(draw(st.lists(score, max_size=5)), reverse=True)
    ids = st.lists(st.integers(0, 65_533), max_size=6)
    found = [draw(ids) for _ in scores_H]
    return HypothesesRecord(
        np.array(scores_H, np.float32),
        np.array([len(labels) for labels in found], np.int32),
        np.array([label for labels in found for label in labels], np.int32),
    )


def _draw_logp(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    logits = st.one_of(st.floats(-200, 0, width=32), st.just(float("-inf")))
    drawn = draw(hnp.arrays(np.float64, shape, elements=logits))
    # One class of each row always has probability.
    drawn[..., draw(st.integers(0, shape[-1] - 1))] = draw(st.floats(-5, 5))
    return normalise(drawn)


def _draw_ids(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    ids: np.ndarray = draw(hnp.arrays(np.int32, shape, elements=st.integers(-1, 65_533)))
    return ids


def _without_repeats(ids_XK: np.ndarray) -> np.ndarray:
    """A class is once among those of a node, as of real teachers; −1 in the place of others."""
    earlier_KK = np.tri(ids_XK.shape[-1], k=-1, dtype=bool)
    repeated_XK = ((ids_XK[..., :, None] == ids_XK[..., None, :]) & earlier_KK).any(-1)
    distinct_XK: np.ndarray = np.where(repeated_XK, -1, ids_XK).astype(np.int32)
    return distinct_XK


def _ids(rng: np.random.Generator, count: int, vocab: int) -> np.ndarray:
    return rng.integers(0, vocab, size=count).astype(np.int32)


def _distinct_ids(
    rng: np.random.Generator, rows: tuple[int, ...], kept: int, vocab: int
) -> np.ndarray:
    order = rng.random((*rows, vocab)).argsort(axis=-1)
    return order[..., :kept].astype(np.int32)
