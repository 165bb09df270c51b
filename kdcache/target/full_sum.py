"""log P(y | x) of the transcript: one number an utterance.

Full-sum distillation compares it with the student's own; it also tells which transcripts a
teacher does not believe. It is a record of four bytes like any other target, not a column of
the catalogue: so it is under the content hash, comes with a stream's batches, and is missing
from no cache that was made without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kdcache.codec.records import ScoreRecord
from kdcache.target.checks import check_rows, check_scores_offered, given
from kdcache.target.likelihood import ctc_likelihoods, lattice_likelihood, token_likelihood
from kdcache.target.protocol import Reduced
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from kdcache.codec.protocol import RecordCodec
    from kdcache.teacher.protocol import TeacherOutput
    from kdcache.types import TeacherSpec


@dataclass(frozen=True, slots=True)
class FullSumTarget:
    """Keeps log P(y | x). A transcript that the teacher has no alignment for has −inf."""

    kind: ClassVar[str] = "full_sum"
    record: ClassVar[str] = "score"

    def settings(self) -> dict[str, Any]:
        """There are none."""
        return {}

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError unless the teacher gives the posteriors of its kind."""
        check_scores_offered(self.kind, teacher, *TeacherKind)

    def default_codec(self) -> dict[str, Any]:
        """As it is."""
        return {"name": "fp32"}

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Keep the score; see ``Target.reduce``.

        Nothing is lost. ``nats_per_label`` is −log P ÷ U (÷ 1 where U is 0), left out where P is
        0: what `kdcache inspect` shows without reading a shard.
        """
        score = likelihood_of(output)
        columns = codec.encode(ScoreRecord(np.array([score], np.float32)))
        shown = {"nats_per_label": -score / max(len(output.tokens), 1)}
        return Reduced(columns, shown if np.isfinite(score) else {})


def likelihood_of(output: TeacherOutput) -> float:
    """log P of the tokens that the teacher was given, in nats; −inf where it has no path.

    Of a transducer by its lattice, of an attention decoder by its tokens, else by CTC.

    Raises:
        TeacherOutputError: NaN or +inf among the logits, or something that is missing.
    """
    kind, tokens = FullSumTarget.kind, output.tokens
    if output.lattice is not None:
        check_rows(output.lattice.shape[0], output.frames, "frames of the lattice")
        return lattice_likelihood(output.lattice, tokens)
    if output.token_logits_UV is not None:
        return token_likelihood(output.token_logits_UV, tokens, given(output.end, kind))
    logits_TV = given(output.frame_logits_TV, kind)
    check_rows(len(logits_TV), output.frames, "frames of logits")
    return ctc_likelihoods(logits_TV, [tokens], given(output.blank, kind))[0]
