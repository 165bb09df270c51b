"""Time-synchronous beam search over a transducer.

At each frame every label sequence that has stayed emits no label, one, two, … at most so many,
each step for all of them at once, and then blank; what reaches the same labels in different ways
is added up. After each frame the most probable sequences stay (Graves 2012, section 2.4, with
labels of a frame bounded and taken in step; Saon et al., "Alignment-length synchronous decoding
for RNN transducer", 2020, section 2, calls it time-synchronous). Where all of them do, the scores
are exact but for the bound.

Shapes: T encoder frames, J joint width, N label sequences, V vocabulary with blank, K labels
that are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcache.target.beam import IMPOSSIBLE, Labels, best, log_add, lowest_kept
from kdcache.target.collapse import likeliest, log_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.teacher.protocol import LatticeLogits, Predictor


def transducer_beam_search(
    lattice: LatticeLogits, predictor: Predictor, beam: int, max_symbols: int
) -> list[Labels]:
    """The most probable label sequences that the search finds, at most ``beam``, best first.

    Args:
        lattice: the teacher's, of which the encoder and the joint network are used.
        predictor: the teacher's prediction network.
        beam: label sequences that stay after each frame.
        max_symbols: labels that a frame may emit.

    Raises:
        TeacherOutputError: NaN or +inf among the logits.
    """
    search = _Search(lattice, _Network(predictor), beam, max_symbols)
    found: dict[Labels, float] = {(): 0.0}
    for frame in range(lattice.shape[0]):
        if found:  # else no alignment has any probability
            found = search.advance(found, frame)
    return best(found, beam)


class _Network:
    """Outputs and states of the prediction network for the label sequences that are in play."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._known: dict[Labels, tuple[Tensor, tuple[Tensor, ...]]] = {(): predictor.start()}

    def outputs(self, sequences: Sequence[Labels]) -> Tensor:
        """(N, J); of each either it or all but its last label has been asked for."""
        fresh = [labels for labels in sequences if labels not in self._known]
        if fresh:
            self._learn(fresh)
        return torch.cat([self._known[labels][0] for labels in sequences])

    def forget_all_but(self, sequences: Sequence[Labels]) -> None:
        """Keep only what is still in play."""
        self._known = {labels: self._known[labels] for labels in sequences}

    def _learn(self, fresh: Sequence[Labels]) -> None:
        parents = [self._known[labels[:-1]][1] for labels in fresh]
        state = tuple(torch.cat(rows) for rows in zip(*parents, strict=True))
        device = next(iter(self._known.values()))[0].device
        last_N = torch.tensor([labels[-1] for labels in fresh], device=device)
        output_NJ, state = self._predictor.step(last_N, state)
        for row, labels in enumerate(fresh):
            own = tuple(part[row : row + 1] for part in state)
            self._known[labels] = (output_NJ[row : row + 1], own)


@dataclass(frozen=True, slots=True)
class _Search:
    """The search, and how wide it is."""

    lattice: LatticeLogits
    network: _Network
    beam: int
    max_symbols: int

    def advance(self, found: dict[Labels, float], frame: int) -> dict[Labels, float]:
        """What stays after one more frame."""
        done: dict[Labels, float] = {}
        current = found
        for emitted in range(self.max_symbols + 1):
            sequences = list(current)
            logp_NV = self._posteriors(sequences, frame)
            blanks = logp_NV[:, self.lattice.blank].tolist()
            for labels, blank in zip(sequences, blanks, strict=True):
                done[labels] = log_add(done.get(labels, IMPOSSIBLE), current[labels] + blank)
            if emitted == self.max_symbols:
                break
            current = self._longer(current, logp_NV, lowest_kept(done, self.beam))
            if not current:
                break
        stay = best(done, self.beam)
        # Parents of what may come next are what stays: nothing else is asked for again.
        self.network.forget_all_but(stay)
        return {labels: done[labels] for labels in stay}

    def _posteriors(self, sequences: Sequence[Labels], frame: int) -> Tensor:
        """float32 log-probabilities (N, V) of all classes after each label sequence."""
        outputs_NJ = self.network.outputs(sequences)
        encoder_11J = self.lattice.encoder_TJ[frame : frame + 1, None]
        logits_NV = self.lattice.joint(encoder_11J, outputs_NJ[None])[0]
        return log_probabilities(logits_NV)

    def _longer(
        self, current: dict[Labels, float], logp_NV: Tensor, least: float
    ) -> dict[Labels, float]:
        """The best sequences that are one label longer, of those that may still stay."""
        logp_NV = logp_NV.clone()
        logp_NV[:, self.lattice.blank] = IMPOSSIBLE
        ids_NK = likeliest(logp_NV, min(self.beam, logp_NV.shape[-1]))
        scores_NK = logp_NV.gather(-1, ids_NK).tolist()
        longer: dict[Labels, float] = {}
        rows = zip(current.items(), ids_NK.tolist(), scores_NK, strict=True)
        for (labels, score), ids_K, scores_K in rows:
            for label, more in zip(ids_K, scores_K, strict=True):
                if score + more < least:
                    break
                longer[(*labels, label)] = score + more
        return {labels: longer[labels] for labels in best(longer, self.beam)}
