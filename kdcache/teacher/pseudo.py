"""Pseudo-labels: where nobody wrote down what was said, the teacher's own hypothesis stands in.

A student then learns from speech without transcripts (Kahn et al. 2020, "Self-training for
end-to-end speech recognition", arXiv 1909.09116). A transducer's lattice is conditioned on what the
teacher itself would write, by a greedy search over the frames that the lattice is made of: the
encoder runs once. An utterance that has labels keeps them.

Named as an adapter it serves every directory that kdcache has an adapter for:

    teacher: {path: models/parakeet-rnnt, adapter: "kdcache.teacher.pseudo:PseudoLabels"}

Its fingerprint is its own: a cache of pseudo-labels is never mixed with one of transcripts. A
search takes the best of several classes, so that where two are equal but for round-off, the labels
can depend on the device and on the batch, as the last digits of all numbers do.

Shapes: U labels, J joint width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kdcache.errors import TeacherError
from kdcache.teacher.greedy import MAX_SYMBOLS, greedy_ctc, greedy_transducer
from kdcache.teacher.protocol import Compilable
from kdcache.teacher.registry import load_teacher
from kdcache.types import TeacherKind, TeacherSpec, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.teacher.protocol import TeacherOutput

SEARCH = "greedy-1"
"""Goes into the fingerprint; raised when the search gives other labels."""


class PseudoLabels:
    """A transducer or CTC teacher that gives unlabelled utterances its own labels.

    Args:
        directory: of the teacher.
        device: a torch device.
        dtype: of its weights and activations.

    Raises:
        TeacherError: the directory cannot be used, or there is no search for such a teacher.
        TokenizerError: its tokenizer cannot be loaded or is not the model's.
        ConfigError: unknown device or dtype.
    """

    def __init__(self, directory: str | Path, device: str = "cpu", dtype: str = "float32") -> None:
        self._teacher = load_teacher(directory, device, dtype)
        self._spec = _spec_of(self._teacher.spec)

    @property
    def spec(self) -> TeacherSpec:
        """What the teacher is, with a fingerprint of its own."""
        return self._spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose ids the teacher's classes are."""
        return self._teacher.tokenizer

    @property
    def labels_itself(self) -> bool:
        """Whether utterances may come without labels: they may."""
        return True

    def compile_layers(self) -> None:
        """As the teacher's adapter has it."""
        assert isinstance(self._teacher, Compilable), "adapters of directories all are"
        self._teacher.compile_layers()

    def forward(
        self, audio: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
    ) -> list[TeacherOutput]:
        """Run one padded batch; see ``Teacher.forward``.

        An utterance without tokens has in its output those that the teacher would write. There
        may be none: the teacher heard no speech.
        """
        outputs = self._teacher.forward(audio, tokens)
        return [output if output.tokens else self._labelled(output) for output in outputs]

    def _labelled(self, output: TeacherOutput) -> TeacherOutput:
        lattice = output.lattice
        if lattice is None:
            assert output.frame_logits_TV is not None
            assert self._spec.blank_id is not None
            return replace(output, tokens=greedy_ctc(output.frame_logits_TV, self._spec.blank_id))
        if lattice.predictor is None:
            raise TeacherError(
                f"Teacher {self._spec.name!r} offers no prediction network to search with; its "
                "adapter has to set `predictor` of its lattices, or give it transcripts."
            )
        labels, states_UJ = greedy_transducer(lattice, lattice.predictor, MAX_SYMBOLS)
        return replace(output, tokens=labels, lattice=replace(lattice, decoder_UJ=states_UJ))


def _spec_of(teacher: TeacherSpec) -> TeacherSpec:
    """The teacher's with another fingerprint; refuses one that cannot be searched."""
    if teacher.kind not in (TeacherKind.TRANSDUCER, TeacherKind.CTC):
        raise TeacherError(
            f"Teacher {teacher.name!r} is of kind {teacher.kind}, and pseudo-labels are made with "
            "transducers and CTC only; take one of these, or a corpus with transcripts."
        )
    parts = {"teacher": teacher.fingerprint, "labels": SEARCH, "max_symbols": MAX_SYMBOLS}
    return replace(teacher, fingerprint=fingerprint_of(parts))
