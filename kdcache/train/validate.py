"""Trying a student on utterances that it does not learn from.

Every worker tries its share and the sums are added up, so that all of them know the same values.
Terms are the run's own, with the weights that its ramps lead to, in nats per utterance; the
student is as it would be used: no dropout, no masks, no noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kdcache.batch import to_device
from kdcache.errors import InputError
from kdcache.score import count_errors, decode_labels
from kdcache.train.data import load_validation
from kdcache.train.objective import loss_terms

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.student import Student, StudentOutput
    from kdcache.train.alignment import Alignment
    from kdcache.train.settings import TrainSettings
    from kdcache.train.world import World


@dataclass(frozen=True, slots=True)
class _Counts:
    """Sums over utterances, float64: of each term, then utterances, word errors and words."""

    terms: Tensor
    utterances: int
    errors: int
    words: int

    def flat(self) -> Tensor:
        counts = [self.utterances, self.errors, self.words]
        return torch.cat([self.terms, self.terms.new_tensor(counts)])


class Validator:
    """Tries students of one run.

    Args:
        settings: of the run, with a ``validation``.
        world: this worker's place.
        tokenizer: of the run.
        alignment: of the run.

    Raises:
        InputError: what to try it on is not there, or does not fit.
    """

    def __init__(
        self, settings: TrainSettings, world: World, tokenizer: Tokenizer, alignment: Alignment
    ) -> None:
        assert settings.validation is not None
        self._decode = settings.validation.decode
        self._weights = settings.validated_loss()
        self._precision = settings.dtype
        self._world, self._alignment = world, alignment
        self._stream = load_validation(settings, world, tokenizer)
        if not len(self._stream.source.durations):
            raise InputError("There are no utterances in `validation`; there is nothing to try.")

    @torch.no_grad()
    def run(self, student: Student) -> dict[str, float]:
        """``loss``, each of its terms, and ``wer``; those that are asked for."""
        student.eval()
        weights = self._weights.weights()
        sums = torch.zeros(len(weights) + 3, dtype=torch.float64)
        for batch in self._stream:
            sums += self._try(student, to_device(batch, self._world.device)).flat()
        *terms, utterances, errors, words = self._world.sum(sums.to(self._world.device)).tolist()
        values = {
            name: value / max(utterances, 1) for name, value in zip(weights, terms, strict=True)
        }
        if values:
            values = {"loss": sum(weights[n] * value for n, value in values.items()), **values}
        if self._decode:
            _check_words(words)
            values["wer"] = errors / words
        return values

    def _try(self, student: Student, batch: Batch) -> _Counts:
        output = student(batch, precision=self._precision)
        terms = loss_terms(output, batch, student.blank, self._weights, self._alignment)
        sums = [terms[name].double().sum().cpu() for name in self._weights.weights()]
        total = torch.stack(sums) if sums else torch.zeros(0, dtype=torch.float64)
        errors, words = _count_words(student, output, batch) if self._decode else (0, 0)
        return _Counts(total, len(batch), errors, words)


def _count_words(student: Student, output: StudentOutput, batch: Batch) -> tuple[int, int]:
    """Word errors of the batch, decoded in float32, and its words."""
    texts = [student.tokenizer.decode(labels) for labels in decode_labels(student, output)]
    errors = sum(
        sum(count_errors(text, said)) for text, said in zip(batch.texts, texts, strict=True)
    )
    return errors, sum(len(text.split()) for text in batch.texts)


def _check_words(words: float) -> None:
    if not words:
        raise InputError(
            "The transcripts of `validation` have no words, so that there is no word error rate; "
            "set validation.decode: false, and validation.metric: loss."
        )
