"""The first pass: a transducer's n best label sequences, each with its whole log P.

The search is the one that makes target ``hypotheses`` of a teacher
(``kdcache.target.transducer_beam``): what it counts on the way lacks what fell out of the beam, so
each sequence of the last beam is given its log P(y | x) over all alignments, and the best of these
are kept.

Shapes: B batch, T encoder frames, J joint width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kdcache.target.prefixes import sequence_likelihoods
from kdcache.target.transducer_beam import transducer_beam_search
from kdcache.teacher.protocol import LatticeLogits
from kdcache.teacher.transducer import LstmPredictor

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.student import StudentOutput, TransducerStudent
    from kdcache.target.beam import Labels

BEAM = 8
"""Label sequences that stay after each frame."""

MAX_SYMBOLS = 5
"""Labels that a frame may emit."""


@dataclass(frozen=True, slots=True)
class Found:
    """A label sequence of the first pass.

    Attributes:
        labels: its class ids.
        score: log P(y | x) of the transducer, in nats.
    """

    labels: Labels
    score: float


@torch.inference_mode()
def n_best(
    student: TransducerStudent,
    output: StudentOutput,
    *,
    beam: int = BEAM,
    max_symbols: int = MAX_SYMBOLS,
) -> list[list[Found]]:
    """At most ``beam`` label sequences of each utterance, the most probable first; at least one.

    Args:
        student: in evaluation mode.
        output: what it heard; labels are not needed.
        beam: label sequences that stay after each frame.
        max_symbols: labels that a frame may emit.

    Raises:
        TeacherOutputError: NaN or +inf among the logits.
    """
    lattices = _lattices(student, output)
    return [_search(lattice, beam, max_symbols) for lattice in lattices]


def _lattices(student: TransducerStudent, output: StudentOutput) -> list[LatticeLogits]:
    """Each utterance's encoder frames, with the networks that read them."""
    assert output.encoder_BTJ is not None
    predictor = LstmPredictor(student.model.decoder, student.blank)
    start_1J, _ = predictor.start()

    def joint(encoder: Tensor, decoder: Tensor) -> Tensor:
        assert output.joint is not None
        return output.joint(decoder, encoder)

    rows = zip(output.encoder_BTJ.float(), output.frames_B.tolist(), strict=True)
    return [
        LatticeLogits(encoder_TJ[:frames], start_1J, joint, student.blank, predictor)
        for encoder_TJ, frames in rows
    ]


def _search(lattice: LatticeLogits, beam: int, max_symbols: int) -> list[Found]:
    assert lattice.predictor is not None
    sequences = transducer_beam_search(lattice, lattice.predictor, beam, max_symbols)
    scores = sequence_likelihoods(lattice, lattice.predictor, sequences)
    found = [Found(labels, score) for labels, score in zip(sequences, scores, strict=True)]
    found = [one for one in found if one.score > -math.inf] or [Found((), -math.inf)]
    return sorted(found, key=lambda one: (-one.score, one.labels))
