"""The student's loss on one micro-batch: a weighted sum of terms.

    L = w_rnnt · L_RNNT + β · KL_lattice + w_enc · KL_encoder + w_ctc · L_CTC + …

(β as in arXiv 2011.06110, equation for the collapsed lattice.) Every term is a value per
utterance in nats; the step's loss is their sum over all utterances of the step, on all
workers, divided by the number of these utterances. So it does not matter how a step is cut
into micro-batches. The terms themselves are in ``kdcache.train.terms``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import KdcacheError
from kdcache.train.alignment import SIDE_BY_SIDE, Alignment
from kdcache.train.terms import (
    attention_terms,
    ctc_term,
    encoder_term,
    hidden_terms,
    hypotheses_term,
    lf_mmi_term,
    logit_term,
    sequence_term,
    transducer_terms,
)

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import Batch
    from kdcache.student import StudentOutput
    from kdcache.train.settings import LossSettings


class NonFiniteLossError(KdcacheError):
    """The loss of an utterance is NaN or infinite."""

    code = "non-finite-loss"


def loss_terms(
    output: StudentOutput,
    batch: Batch,
    blank: int,
    weights: LossSettings,
    alignment: Alignment = SIDE_BY_SIDE,
) -> dict[str, Tensor]:
    """The terms whose weight is not zero, each (B,) nats.

    Raises:
        NonFiniteLossError: by the utterance's id.
        SpecMismatchError: teacher and student differ in frames or labels.
    """
    terms = transducer_terms(output, batch, blank, weights, alignment)
    if weights.encoder_kl:
        terms["encoder_kl"] = encoder_term(output, batch, weights, alignment)
    if weights.ctc:
        terms["ctc"] = ctc_term(output, batch, blank)
    if weights.logit_mse:
        terms["logit_mse"] = logit_term(output, batch, alignment)
    if weights.lf_mmi:
        terms["lf_mmi"] = lf_mmi_term(output, batch, weights)
    if weights.sequence_kd:
        terms["sequence_kd"] = sequence_term(output, batch, weights, alignment)
    if weights.hidden_mse or weights.hidden_codes:
        terms |= hidden_terms(output, batch, weights, alignment)
    if weights.hypotheses:
        terms["hypotheses"] = hypotheses_term(output, batch, blank)
    if weights.attention or weights.decoder_kl:
        terms |= attention_terms(output, batch, blank, weights)
    terms = {name: values_B for name, values_B in terms.items() if getattr(weights, name)}
    for name, values_B in terms.items():
        _check_finite(name, values_B, batch.ids)
    return terms


def weighted_sum(terms: dict[str, Tensor], weights: LossSettings) -> Tensor:
    """Σ weight · term over terms and utterances: a scalar."""
    parts = [getattr(weights, name) * values_B.sum() for name, values_B in terms.items()]
    return torch.stack(parts).sum()


def _check_finite(name: str, values_B: Tensor, ids: tuple[str, ...]) -> None:
    finite_B = torch.isfinite(values_B)
    if not bool(finite_B.all()):
        bad = [ids[row] for row in (~finite_B).nonzero()[:, 0].tolist()]
        raise NonFiniteLossError(
            f"The {name} loss is not finite for {', '.join(map(repr, bad))}; nothing was "
            "updated. Lower the learning rate, or look at these utterances."
        )
