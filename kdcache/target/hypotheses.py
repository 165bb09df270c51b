"""What the teacher would have written: its n best label sequences with their probabilities.

A beam search finds them, over CTC posteriors or over the transducer. What it counts on the way
is less than a sequence's probability, by what fell out of the beam; so each that is in the beam
at the end is given its whole log P(y | x), over all alignments, the same number that target
``full_sum`` keeps of the transcript, and the n best of these are kept.

Shapes: H hypotheses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcache.codec.ids import check_vocabulary
from kdcache.codec.records import HypothesesRecord
from kdcache.errors import ConfigError
from kdcache.target.checks import check_ids, check_rows, check_scores_offered, given
from kdcache.target.ctc_beam import ctc_beam_search
from kdcache.target.likelihood import ctc_likelihoods
from kdcache.target.prefixes import sequence_likelihoods
from kdcache.target.protocol import Reduced
from kdcache.target.transducer_beam import transducer_beam_search
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.codec.protocol import RecordCodec
    from kdcache.target.beam import Labels
    from kdcache.teacher.protocol import TeacherOutput
    from kdcache.types import TeacherSpec

WIDEST = 1024
LEAST_BEAM = 8


@dataclass(frozen=True, slots=True)
class HypothesesTarget:
    """Keeps the n best label sequences that a beam search finds.

    Attributes:
        n: H, how many are kept at most.
        beam: label sequences that stay after each frame, at least ``n``; unless given, 8 or
            ``n``, whichever is more.
        max_symbols: labels that a transducer may emit in a frame; CTC takes no notice.
    """

    n: int = 8
    beam: int | None = None
    max_symbols: int = 5

    kind: ClassVar[str] = "hypotheses"
    record: ClassVar[str] = "hypotheses"

    def __post_init__(self) -> None:
        if self.beam is None and type(self.n) is int:
            object.__setattr__(self, "beam", max(self.n, LEAST_BEAM))
        for name, value, least in (
            ("n", self.n, 1),
            ("beam", self.beam, self.n),
            ("max_symbols", self.max_symbols, 1),
        ):
            if type(value) is not int or not least <= value <= WIDEST:
                raise ConfigError(
                    f"{name} is {value!r}; expected an integer from {least} to {WIDEST:,}."
                )

    def settings(self) -> dict[str, Any]:
        """All three."""
        return asdict(self)

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless there is a search for such teachers.

        Raises:
            ConfigError: its class ids do not fit into 16 bits.
        """
        kinds = (TeacherKind.TRANSDUCER, TeacherKind.CTC)
        check_scores_offered(self.kind, teacher, *kinds)
        check_vocabulary(teacher.vocab_size)

    def default_codec(self) -> dict[str, Any]:
        """As they are."""
        return {"name": "fp32"}

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Search, score and pack; see ``Target.reduce``.

        ``mass_outside`` in the fidelity is the probability of all sequences that are not kept.
        """
        found = self._search(output)
        scores = self._scores(output, found)
        order = sorted(
            (row for row in range(len(found)) if np.isfinite(scores[row])),
            key=lambda row: (-scores[row], found[row]),
        )[: self.n]
        record = _record([found[row] for row in order], scores[order])
        columns = codec.encode(record)
        decoded = codec.decode(columns)
        assert isinstance(decoded, HypothesesRecord)
        check_ids(record.ids_L, decoded.ids_L)
        check_ids(record.lengths_H, decoded.lengths_H)
        mass = float(np.exp(record.scores_H.astype(np.float64)).sum())
        return Reduced(columns, {"mass_outside": max(0.0, 1.0 - mass)})

    def _search(self, output: TeacherOutput) -> list[Labels]:
        """What is in the beam at the end."""
        assert self.beam is not None
        if output.lattice is not None:
            check_rows(output.lattice.shape[0], output.frames, "frames of the lattice")
            predictor = given(output.lattice.predictor, self.kind)
            return transducer_beam_search(output.lattice, predictor, self.beam, self.max_symbols)
        logits_TV = given(output.frame_logits_TV, self.kind)
        check_rows(len(logits_TV), output.frames, "frames of logits")
        return ctc_beam_search(logits_TV, given(output.blank, self.kind), self.beam)

    def _scores(self, output: TeacherOutput, found: Sequence[Labels]) -> np.ndarray:
        """log P of each, float32."""
        if output.lattice is not None:
            predictor = given(output.lattice.predictor, self.kind)
            scores = sequence_likelihoods(output.lattice, predictor, found)
        elif found:
            logits_TV = given(output.frame_logits_TV, self.kind)
            scores = ctc_likelihoods(logits_TV, found, given(output.blank, self.kind))
        else:
            scores = []
        return np.array(scores, np.float32)


def _record(found: Sequence[Labels], scores_H: np.ndarray) -> HypothesesRecord:
    lengths_H = np.array([len(labels) for labels in found], np.int32)
    ids_L = np.array([label for labels in found for label in labels], np.int32)
    return HypothesesRecord(scores_H, lengths_H, ids_L)
