"""The second pass: an attention decoder's opinion of what the first found, and which to believe.

    score(y) = (1 − μ) · ln P_first(y | x) + μ · ln P_second(y | x)

Both are the probabilities of whole label sequences, the end included, so that they sum to one over
sequences of all lengths; neither is divided by a length, and no reward for length is added. μ is a
choice, made on other utterances than those that are reported.

Shapes: H label sequences, T encoder frames, U labels, D hidden size, V vocabulary with the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from kdcache.loss import token_cross_entropy
from kdcache.score.wer import count_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.network.attention_decoder import AttentionDecoder
    from kdcache.score.nbest import Found
    from kdcache.student import StudentOutput
    from kdcache.target.beam import Labels

WEIGHTS = tuple(step / 20 for step in range(21))
"""Values of μ that are tried."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A label sequence that both passes have scored.

    Attributes:
        text: what it spells.
        first, second: log P of each pass, in nats.
    """

    text: str
    first: float
    second: float

    def score(self, weight: float) -> float:
        """(1 − μ) · first + μ · second; a weight of 0 leaves −∞ of its pass without effect."""
        first = (1 - weight) * self.first if weight < 1 else 0.0
        return first + (weight * self.second if weight > 0 else 0.0)


@torch.inference_mode()
def second_scores(
    decoder: AttentionDecoder, output: StudentOutput, found: Sequence[Sequence[Found]]
) -> list[list[float]]:
    """log P(y | x) of each label sequence by the attention decoder, in nats.

    Args:
        decoder: in evaluation mode.
        output: what the encoder heard.
        found: label sequences of each utterance, at least one.
    """
    scores = []
    for row, frames in enumerate(output.frames_B.tolist()):
        hidden_1TD = output.hidden_BTD[row : row + 1, :frames].float()
        sequences = [one.labels for one in found[row]]
        scores.append(_scores(decoder, hidden_1TD, sequences))
    return scores


def _scores(
    decoder: AttentionDecoder, hidden_1TD: torch.Tensor, sequences: Sequence[Labels]
) -> list[float]:
    device = hidden_1TD.device
    rows = [torch.tensor(labels, dtype=torch.long, device=device) for labels in sequences]
    labels_HU = pad_sequence(rows, batch_first=True)
    lengths_H = torch.tensor([len(row) for row in rows], device=device)
    state = decoder.begin(hidden_1TD, torch.tensor([hidden_1TD.shape[1]], device=device))
    logits_HUV = decoder.spell(labels_HU, state.rows(torch.zeros_like(lengths_H)))
    nats_H = token_cross_entropy(logits_HUV, labels_HU, lengths_H, decoder.end, reduction="none")
    scores: list[float] = (-nats_H).tolist()
    return scores


def best_of(hypotheses: Sequence[Hypothesis], weight: float) -> Hypothesis:
    """The one with the highest score; of equal ones the first.

    Args:
        hypotheses: at least one, best of the first pass first.
        weight: μ, 0 to 1.
    """
    best, height = hypotheses[0], -math.inf
    for one in hypotheses:
        if (score := one.score(weight)) > height:
            best, height = one, score
    return best


def least_errors(hypotheses: Sequence[Hypothesis], text: str) -> Hypothesis:
    """The one nearest to the transcript, which no score can beat; the first of equals."""
    return min(hypotheses, key=lambda one: sum(count_errors(text, one.text)))


def choose_weight(lists: Sequence[Sequence[Hypothesis]], texts: Sequence[str]) -> float:
    """The μ with the fewest word errors; of equal ones the smallest.

    Args:
        lists: hypotheses of each utterance.
        texts: their transcripts.
    """
    pairs = list(zip(lists, texts, strict=True))

    def errors(weight: float) -> int:
        return sum(sum(count_errors(text, best_of(found, weight).text)) for found, text in pairs)

    return min(WEIGHTS, key=lambda weight: (errors(weight), weight))
