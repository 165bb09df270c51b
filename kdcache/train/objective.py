"""The student's loss on one micro-batch: a weighted sum of terms.

    L = w_rnnt · L_RNNT + β · KL_lattice + w_enc · KL_encoder + w_ctc · L_CTC
        + w_full · |log P_T − log P_S| + w_mse · L_hidden + w_codes · L_codebooks
        + w_hyp · Σ_h w_h L_RNNT(y_h)

(β as in arXiv 2011.06110, equation for the collapsed lattice.) Every term is a value per
utterance in nats; the step's loss is their sum over all utterances of the step, on all
workers, divided by the number of these utterances. So it does not matter how a step is cut
into micro-batches.

Where the cached lattice is a band, KL_lattice is over the band's nodes. L_RNNT is over the whole
lattice all the same, unless it is asked to stay in the band (``loss.rnnt_in_band``): then nothing
needs the other nodes, and the joint network is evaluated at T×S of them instead of T×U. Either
way it is evaluated block by block where it is large, and no lattice of logits is ever held. The
full sum's P_S is that of L_RNNT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import ctc_loss
from torch.utils.checkpoint import checkpoint

from kdcache.batch import HypothesesBatch, PosteriorBatch, ScoreBatch, VectorBatch
from kdcache.errors import ConfigError, KdcacheError, SpecMismatchError
from kdcache.lattice import rnnt_loss
from kdcache.loss import (
    codebook_cross_entropy,
    full_sum_distance,
    hypotheses_nll,
    posterior_kl,
    transducer_kd_loss,
    vector_mse,
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
    output: StudentOutput, batch: Batch, blank: int, weights: LossSettings
) -> dict[str, Tensor]:
    """The terms whose weight is not zero, each (B,) nats.

    Raises:
        NonFiniteLossError: by the utterance's id.
        SpecMismatchError: teacher and student differ in frames or labels.
    """
    terms = _transducer_terms(output, batch, blank, weights)
    if weights.encoder_kl:
        terms["encoder_kl"] = _encoder_term(output, batch)
    if weights.ctc:
        terms["ctc"] = _ctc_term(output, batch, blank)
    if weights.hidden_mse or weights.hidden_codes:
        terms |= _hidden_terms(output, batch, weights)
    if weights.hypotheses:
        terms["hypotheses"] = _hypotheses_term(output, batch, blank)
    terms = {name: values_B for name, values_B in terms.items() if getattr(weights, name)}
    for name, values_B in terms.items():
        _check_finite(name, values_B, batch.ids)
    return terms


def weighted_sum(terms: dict[str, Tensor], weights: LossSettings) -> Tensor:
    """Σ weight · term over terms and utterances: a scalar."""
    parts = [getattr(weights, name) * values_B.sum() for name, values_B in terms.items()]
    return torch.stack(parts).sum()


def _transducer_terms(
    output: StudentOutput, batch: Batch, blank: int, weights: LossSettings
) -> dict[str, Tensor]:
    """What one pass over the student's lattice gives; more than is asked for, perhaps."""
    if weights.lattice_kl:
        terms = _lattice_terms(output, batch, blank, weights)
    elif weights.rnnt or weights.full_sum:
        lengths = (output.frames_B, batch.label_lengths_B)
        terms = {"rnnt": rnnt_loss(output.factored(), batch.labels_BU, *lengths, blank, "none")}
    else:
        return {}
    if weights.full_sum:
        target = batch.targets["full_sum"]
        assert isinstance(target, ScoreBatch)
        terms["full_sum"] = full_sum_distance(terms["rnnt"], target, "none")
    return terms


def _lattice_terms(
    output: StudentOutput, batch: Batch, blank: int, weights: LossSettings
) -> dict[str, Tensor]:
    """RNN-T loss and lattice KL from one pass over the vocabulary."""
    target = batch.lattice
    whole = weights.rnnt or weights.full_sum
    in_band = target.starts_BT is not None and (weights.rnnt_in_band or not whole)
    _check_lengths(batch.ids, "frames", target.frames_B, output.frames_B)
    _check_lengths(batch.ids, "labels", target.labels_B, batch.label_lengths_B)
    found = transducer_kd_loss(
        output.factored(),
        target,
        batch.labels_BU,
        blank,
        beta=1.0,
        reduction="none",
        nodes="band" if in_band else "lattice",
    )
    return {"rnnt": found.rnnt, "lattice_kl": found.kl}


def _encoder_term(output: StudentOutput, batch: Batch) -> Tensor:
    target = batch.targets["encoder_logits"]
    assert isinstance(target, PosteriorBatch)
    assert output.ctc_logits_BTV is not None
    _check_lengths(batch.ids, "frames", target.lengths_B, output.frames_B)
    return posterior_kl(output.ctc_logits_BTV, target, reduction="none")


def _hypotheses_term(output: StudentOutput, batch: Batch, blank: int) -> Tensor:
    """RNN-T loss of the teacher's hypotheses, of which one lattice at a time is in memory."""
    target = batch.targets["hypotheses"]
    assert isinstance(target, HypothesesBatch)

    def loss(ids_BU: Tensor, lengths_B: Tensor) -> Tensor:
        labels_BU = ids_BU[:, : int(lengths_B.max())].clamp(min=0)
        logits = output.factored_of(labels_BU)
        return rnnt_loss(logits, labels_BU, output.frames_B, lengths_B, blank, "none")

    losses = [
        checkpoint(loss, target.ids_BHU[:, h], target.lengths_BH[:, h], use_reentrant=False)
        for h in range(target.scores_BH.shape[1])
    ]
    if not losses:
        return output.encoder_BTJ.sum((1, 2)) * 0.0
    return hypotheses_nll(torch.stack(losses, dim=1), target, reduction="none")


def _hidden_terms(output: StudentOutput, batch: Batch, weights: LossSettings) -> dict[str, Tensor]:
    """What is learnt from the teacher's hidden states: the vectors, or their entries."""
    target = batch.targets["hidden"]
    assert isinstance(target, VectorBatch)
    _check_lengths(batch.ids, "frames", target.lengths_B, output.frames_B)
    terms = {}
    if weights.hidden_mse:
        vectors_BTD = _head(output.vectors_BTD, "hidden_head")
        terms["hidden_mse"] = vector_mse(vectors_BTD, target, "none")
    if weights.hidden_codes:
        codes_BTQE = _head(output.codes_BTQE, "codebook_head")
        terms["hidden_codes"] = codebook_cross_entropy(codes_BTQE, target, "none")
    return terms


def _ctc_term(output: StudentOutput, batch: Batch, blank: int) -> Tensor:
    assert output.ctc_logits_BTV is not None
    logp_TBV = output.ctc_logits_BTV.float().log_softmax(-1).transpose(0, 1)
    values: Tensor = ctc_loss(
        logp_TBV,
        batch.labels_BU,
        output.frames_B,
        batch.label_lengths_B,
        blank=blank,
        reduction="none",
        zero_infinity=True,  # more labels than frames: CTC has no path, RNN-T still has
    )
    return values


def _head(given: Tensor | None, setting: str) -> Tensor:
    """What a head of the student gives, which it lacks where it was begun from one without."""
    if given is None:
        raise ConfigError(
            f"The student has no {setting}, which the loss needs; the student that `init` names "
            "was trained without. Start from one that has it, or from none."
        )
    return given


def _check_lengths(ids: tuple[str, ...], what: str, teacher_B: Tensor, student_B: Tensor) -> None:
    wrong = (teacher_B != student_B).nonzero()[:, 0].tolist()
    if wrong:
        row = wrong[0]
        raise SpecMismatchError(
            f"Utterance {ids[row]!r}: the teacher has {int(teacher_B[row])} {what} and the "
            f"student {int(student_B[row])}; give the student the teacher's frame rate "
            "(student.subsampling) and tokenizer."
        )


def _check_finite(name: str, values_B: Tensor, ids: tuple[str, ...]) -> None:
    finite_B = torch.isfinite(values_B)
    if not bool(finite_B.all()):
        bad = [ids[row] for row in (~finite_B).nonzero()[:, 0].tolist()]
        raise NonFiniteLossError(
            f"The {name} loss is not finite for {', '.join(map(repr, bad))}; nothing was "
            "updated. Lower the learning rate, or look at these utterances."
        )
