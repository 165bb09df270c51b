"""What the teacher believed of one utterance: its labels in time, its doubts, frame by frame.

Alignments are of the cached lattice, or else, by CTC, of the cached posteriors of the encoder.

Shapes: T encoder frames, U labels, V vocabulary, K kept classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.codec import HypothesesRecord, LatticeRecord, PosteriorRecord, ScoreRecord
from kdcache.errors import ConfigError
from kdcache.inspect.divergence import spread
from kdcache.inspect.doubt import Disagreement, different_labels, rivals
from kdcache.inspect.frames import Frame, node_frames, posterior_frames
from kdcache.inspect.paths import best_path, ctc_greedy, ctc_path, full_sum
from kdcache.inspect.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.store import Cache

    Spell = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Token:
    """A label of the transcript, where the best path says it.

    Attributes:
        id, piece: the label and its text.
        frame, seconds: at which it is said; of CTC, at which it begins.
        log_p: of the label there, nats.
        rival, rival_piece, rival_log_p: the likeliest other label there, where one is kept.
    """

    id: int
    piece: str
    frame: int
    seconds: float
    log_p: float
    rival: int | None = None
    rival_piece: str | None = None
    rival_log_p: float | None = None


@dataclass(frozen=True, slots=True)
class Belief:
    """Of one utterance.

    Attributes:
        aligned_by: the target that tells the alignment; ``None`` where none does, and there are
            no tokens then.
        path_log_p: log P of the best path, nats.
        log_p: log P(y | x) of the transcript, nats; of a band, over the paths that it holds.
        log_p_per_label: that over the number of labels.
        tokens: the transcript's labels in time.
        says, said_by: the teacher's own words, and the target that tells them.
        disagreements: where these are others than the transcript's.
        frames_of: the target that frames are told of; frames are empty without one.
        frames: all of them.
        notes: what could not be told, and why.
    """

    aligned_by: str | None = None
    path_log_p: float | None = None
    log_p: float | None = None
    log_p_per_label: float | None = None
    tokens: tuple[Token, ...] = ()
    says: str | None = None
    said_by: str | None = None
    disagreements: tuple[Disagreement, ...] = ()
    frames_of: str | None = None
    frames: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def read_belief(cache: Cache, key: str, spell: Spell) -> Belief:
    """Read an utterance's targets and tell what they say.

    Args:
        cache: an open cache.
        key: id of a good utterance.
        spell: text of label ids.

    Raises:
        UnknownUtteranceError, DamagedCacheError: see ``Cache.read_target``.
    """
    return _Reader(cache, key, spell).belief()


class _Reader:
    """One utterance's targets, the first of each kind, and what is told of them."""

    def __init__(self, cache: Cache, key: str, spell: Spell) -> None:
        self._spell, self._teacher = spell, cache.spec.teacher
        self._row = cache.row_of(key)
        self._labels: list[int] = cache.catalogue_columns(["tokens"])["tokens"][self._row].as_py()
        self._notes: list[str] = []
        self._found: dict[type, tuple[str, Any]] = {}
        self._piece = Pieces(spell, self._labels, self._teacher.blank_id)
        for target in cache.spec.targets:
            if target.record != "vector" and target.kind != "decoder_logits":
                self._read(cache, target.name)

    def belief(self) -> Belief:
        """All of it."""
        lattice, posterior = self._found.get(LatticeRecord), self._found.get(PosteriorRecord)
        shift = self._teacher.frame_shift
        aligned_by, frames_U, path_log_p, tokens = self._align(lattice, posterior)
        says, said_by, differs = self._own_words(posterior, frames_U)
        if said_by is None and lattice is not None:
            differs = rivals(tokens)
        frames: tuple[Frame, ...] = ()
        if posterior is not None:
            frames = posterior_frames(self._dense(posterior[1]), shift, self._piece)
        elif lattice is not None and frames_U is not None:
            more = (self._teacher.blank_id, self._labels)
            frames = node_frames(lattice[1], frames_U, more, shift, self._piece)
        told_of = posterior or lattice
        log_p = self._log_p(lattice)
        return Belief(
            aligned_by=aligned_by,
            path_log_p=path_log_p,
            log_p=log_p,
            log_p_per_label=None if log_p is None else log_p / max(len(self._labels), 1),
            tokens=tokens,
            says=says,
            said_by=said_by,
            disagreements=differs,
            frames_of=told_of[0] if told_of and frames else None,
            frames=frames,
            notes=tuple(self._notes),
        )

    def _read(self, cache: Cache, name: str) -> None:
        try:
            record = cache.read_target(self._row, name)
        except ConfigError as error:  # a codec that is not to be had here
            self._notes.append(f"target {name}: {error.message}")
            return
        if isinstance(record, LatticeRecord) and record.labels != len(self._labels):
            self._notes.append(
                f"target {name} has {record.labels} labels, but the catalogue {len(self._labels)}"
            )
            return
        self._found.setdefault(type(record), (name, record))

    def _align(
        self,
        lattice: tuple[str, LatticeRecord] | None,
        posterior: tuple[str, PosteriorRecord] | None,
    ) -> tuple[str | None, np.ndarray | None, float | None, tuple[Token, ...]]:
        """Target, frames of the labels, log P of the path, tokens."""
        blank = self._teacher.blank_id
        if lattice is not None:
            name, nodes = lattice
            frames_U, log_p = best_path(nodes)
            tokens = self._lattice_tokens(nodes, frames_U)
        elif posterior is not None and blank is not None:
            name = posterior[0]
            dense_TV = self._dense(posterior[1])
            frames_U, log_p = ctc_path(dense_TV, self._labels, blank)
            tokens = self._ctc_tokens(dense_TV, frames_U, blank)
        else:
            return None, None, None, ()
        if np.isfinite(log_p):
            return name, frames_U, log_p, tokens
        self._notes.append(f"target {name} has no path that says the transcript")
        return name, None, log_p, ()

    def _lattice_tokens(self, lattice: LatticeRecord, frames_U: np.ndarray) -> tuple[Token, ...]:
        starts_T = lattice.starts_T
        found = []
        for u, frame in enumerate(frames_U.tolist()):
            at = u - (0 if starts_T is None else int(starts_T[frame]))
            if not 0 <= at < lattice.logp_TSC.shape[1]:
                return ()  # there is no path
            logp_C, ids_K = lattice.logp_TSC[frame, at], lattice.ids_TSK[frame, at]
            rival = (int(ids_K[0]), float(logp_C[2])) if len(ids_K) and ids_K[0] >= 0 else None
            found.append(self._token(u, frame, float(logp_C[1]), rival))
        return tuple(found)

    def _ctc_tokens(
        self, dense_TV: np.ndarray, frames_U: np.ndarray, blank: int
    ) -> tuple[Token, ...]:
        found = []
        for u, frame in enumerate(frames_U.tolist()):
            others_V = dense_TV[frame].copy()
            others_V[[blank, self._labels[u]]] = -np.inf
            rival = int(others_V.argmax())
            log_p = float(dense_TV[frame, self._labels[u]])
            found.append(self._token(u, frame, log_p, (rival, float(others_V[rival]))))
        return tuple(found)

    def _token(self, u: int, frame: int, log_p: float, rival: tuple[int, float] | None) -> Token:
        label = self._labels[u]
        other = (rival[0], self._piece(rival[0]), rival[1]) if rival else (None, None, None)
        seconds = frame * self._teacher.frame_shift
        return Token(label, self._piece(label), frame, seconds, log_p, *other)

    def _own_words(
        self, posterior: tuple[str, PosteriorRecord] | None, frames_U: np.ndarray | None
    ) -> tuple[str | None, str | None, tuple[Disagreement, ...]]:
        """Text, target and disagreements: of the best hypothesis, or of CTC by itself."""
        hypotheses = self._found.get(HypothesesRecord)
        blank = self._teacher.blank_id
        if hypotheses is not None and len(hypotheses[1].scores_H):
            name, record = hypotheses
            labels, frames = record.sequences()[0].tolist(), None
        elif posterior is not None and blank is not None:
            name, record = posterior
            said = ctc_greedy(self._dense(record), blank)
            labels, frames = [label for _, label in said], [frame for frame, _ in said]
        else:
            return None, None, ()
        times = None if frames_U is None else frames_U.tolist()
        shift = self._teacher.frame_shift
        differs = different_labels((self._labels, times), (labels, frames), shift, self._spell)
        return self._spell(labels), name, differs

    def _log_p(self, lattice: tuple[str, LatticeRecord] | None) -> float | None:
        score = self._found.get(ScoreRecord)
        if score is not None:
            return float(score[1].score_1[0])
        return None if lattice is None else full_sum(lattice[1])

    def _dense(self, record: PosteriorRecord) -> np.ndarray:
        return spread(record, self._teacher.vocab_size)
