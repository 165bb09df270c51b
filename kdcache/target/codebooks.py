"""Trains the codebooks that a cache packs its teacher's vectors by.

The first codebook is a k-means of the vectors, each further one a k-means of what those before
it leave. Then all are moved together: vectors are assigned to sums of entries anew, and each
codebook in turn becomes the mean of what the others leave, which makes the squared error
smaller. The sums are those of Guo et al., "Predicting Multi-Codebook Vector Quantization Indexes
for Knowledge Distillation" (arXiv 2211.00508), which trains them by gradients instead.

Everything follows from the vectors, their order and a seed.

Shapes: M vectors of the sample, D channels, Q codebooks, E entries.
"""

from __future__ import annotations

import numpy as np

from kdcache.codec.codebooks import ENTRIES, Codebooks
from kdcache.errors import TeacherOutputError

MOST_VECTORS = 16_384
"""M: 64 vectors an entry; more move the entries little and take as much longer."""

_ITERATIONS = 8
_ROUNDS = 3


class VectorSample:
    """Collects vectors of utterances, in whatever order they are heard.

    Args:
        utterances: how many will be heard, among whom :data:`MOST_VECTORS` are shared.
    """

    def __init__(self, utterances: int) -> None:
        self._each = -(-MOST_VECTORS // max(utterances, 1))
        self._heard: dict[str, np.ndarray] = {}

    def add(self, utterance: str, values_TD: np.ndarray) -> None:
        """Take evenly spaced vectors of an utterance."""
        frames = len(values_TD)
        count = min(frames, self._each)
        self._heard[utterance] = values_TD[np.arange(count) * frames // max(count, 1)].copy()

    def vectors(self) -> np.ndarray:
        """float32 (M, D), in order of id.

        Raises:
            TeacherOutputError: nothing was heard.
        """
        if not self._heard:
            raise TeacherOutputError("No vectors were heard, of which codebooks could be trained.")
        return np.concatenate([self._heard[key] for key in sorted(self._heard)])


def train_codebooks(values_MD: np.ndarray, count: int, seed: int = 0) -> Codebooks:
    """Codebooks for vectors like these.

    Args:
        values_MD: float32, at least one.
        count: Q.
        seed: of the entries that k-means begins with.
    """
    rng = np.random.default_rng(seed)
    center_D = values_MD.mean(axis=0, dtype=np.float64).astype(np.float32)
    left_MD = values_MD - center_D
    books_QED = np.zeros((count, ENTRIES, values_MD.shape[1]), np.float32)
    for book in range(count):
        entries_ED, codes_M = k_means(left_MD, rng)
        books_QED[book] = _as_stored(entries_ED)
        left_MD = left_MD - books_QED[book][codes_M]
    for _ in range(_ROUNDS):
        codes_MQ = Codebooks.from_values(books_QED, center_D).assign(values_MD)
        books_QED = _refit(values_MD - center_D, codes_MQ, books_QED)
    return Codebooks.from_values(books_QED, center_D)


def k_means(values_MD: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's algorithm from random vectors: entries float32 (E, D), and each vector's (M,).

    An entry that no vector is nearest to moves to one of those that are worst off.
    """
    first = rng.permutation(len(values_MD))[:ENTRIES]
    entries_ED = np.zeros((ENTRIES, values_MD.shape[1]), np.float32)
    entries_ED[: len(first)] = values_MD[first]
    for _ in range(_ITERATIONS):
        codes_M, error_M = _nearest(values_MD, entries_ED)
        entries_ED, seen_E = _means(values_MD, codes_M, entries_ED)
        lonely = np.flatnonzero(seen_E == 0)
        worst = np.argsort(-error_M, kind="stable")[: len(lonely)]
        entries_ED[lonely[: len(worst)]] = values_MD[worst]
    return entries_ED, _nearest(values_MD, entries_ED)[0]


def _nearest(values_MD: np.ndarray, entries_ED: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest entry of each vector, and its squared distance less the vector's square."""
    distance_ME = np.square(entries_ED).sum(-1) - 2 * values_MD @ entries_ED.T
    codes_M = distance_ME.argmin(-1)
    error_M = distance_ME[np.arange(len(codes_M)), codes_M] + np.square(values_MD).sum(-1)
    return codes_M, error_M


def _means(
    values_MD: np.ndarray, codes_M: np.ndarray, entries_ED: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the vectors of each entry, which stays where it has none; and how many it has."""
    seen_E = np.bincount(codes_M, minlength=ENTRIES)
    order_M = np.argsort(codes_M, kind="stable")
    real = np.flatnonzero(seen_E)
    starts = (np.cumsum(seen_E) - seen_E)[real]
    moved_ED = entries_ED.copy()
    sums = np.add.reduceat(values_MD[order_M], starts, axis=0, dtype=np.float64)
    moved_ED[real] = sums / seen_E[real, None]
    return moved_ED, seen_E


def _refit(left_MD: np.ndarray, codes_MQ: np.ndarray, books_QED: np.ndarray) -> np.ndarray:
    """Each codebook in turn as the mean of what the others leave."""
    moved_QED = books_QED.copy()
    over_MD = left_MD - sum(b[c] for b, c in zip(moved_QED, codes_MQ.T, strict=True))
    for book, codes_M in enumerate(codes_MQ.T):
        own_MD = over_MD + moved_QED[book][codes_M]
        moved_QED[book] = _as_stored(_means(own_MD, codes_M, moved_QED[book])[0])
        over_MD = own_MD - moved_QED[book][codes_M]
    return moved_QED


def _as_stored(entries_ED: np.ndarray) -> np.ndarray:
    """Entries as they will be read, so that the other codebooks make up for the rounding."""
    books = Codebooks.from_values(entries_ED[None], np.zeros(entries_ED.shape[1]))
    stored_ED: np.ndarray = books.values[0]
    return stored_ED
