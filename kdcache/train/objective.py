"""The student's loss on one micro-batch: a weighted sum of terms.

    L = w_rnnt · L_RNNT + β · KL_lattice + w_enc · KL_encoder + w_ctc · L_CTC

(β as in arXiv 2011.06110, equation for the collapsed lattice.) Every term is a value per
utterance in nats; the step's loss is their sum over all utterances of the step, on all
workers, divided by the number of these utterances. So it does not matter how a step is cut
into micro-batches.

Where the cached lattice is a band, KL_lattice is over the band's nodes. L_RNNT is over the whole
lattice all the same, unless it is asked to stay in the band (``loss.rnnt_in_band``): then nothing
needs the other nodes, and the joint network is evaluated at T×S of them instead of T×U.

Teacher and student need not have the same frames: see ``kdcache.loss.pairs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import ctc_loss

from kdcache.batch import PosteriorBatch
from kdcache.errors import KdcacheError, SpecMismatchError
from kdcache.lattice import rnnt_loss
from kdcache.loss import align_lattice, aligned_posterior_kl, transducer_kd_loss
from kdcache.train.alignment import SIDE_BY_SIDE, Alignment

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
    terms: dict[str, Tensor] = {}
    if weights.lattice_kl:
        terms |= _lattice_terms(output, batch, blank, weights, alignment)
    elif weights.rnnt:
        terms["rnnt"] = rnnt_loss(
            output.lattice_logits(),
            batch.labels_BU,
            output.frames_B,
            batch.label_lengths_B,
            blank,
            reduction="none",
        )
    if weights.encoder_kl:
        terms["encoder_kl"] = _encoder_term(output, batch, weights, alignment)
    if weights.ctc:
        terms["ctc"] = _ctc_term(output, batch, blank)
    for name, values_B in terms.items():
        _check_finite(name, values_B, batch.ids)
    return terms


def weighted_sum(terms: dict[str, Tensor], weights: LossSettings) -> Tensor:
    """Σ weight · term over terms and utterances: a scalar."""
    parts = [getattr(weights, name) * values_B.sum() for name, values_B in terms.items()]
    return torch.stack(parts).sum()


def _lattice_terms(
    output: StudentOutput, batch: Batch, blank: int, weights: LossSettings, alignment: Alignment
) -> dict[str, Tensor]:
    """RNN-T loss and lattice KL from one pass over the vocabulary."""
    (shift,) = alignment.shifts_of("lattice_kl")
    frames = (output.frames_B, alignment.ratio, shift)
    target = align_lattice(batch.lattice, *frames, batch.ids)
    in_band = target.starts_BT is not None and (weights.rnnt_in_band or not weights.rnnt)
    _check_lengths(batch.ids, "labels", target.labels_B, batch.label_lengths_B)
    if in_band:
        assert target.starts_BT is not None
        logits_BTXV = output.band_logits(target.starts_BT, target.logp_BTSC.shape[2])
    else:
        logits_BTXV = output.lattice_logits()
    found = transducer_kd_loss(
        logits_BTXV,
        target,
        batch.labels_BU,
        blank,
        beta=1.0,
        reduction="none",
        nodes="band" if in_band else "lattice",
    )
    terms = {"rnnt": found.rnnt, "lattice_kl": found.kl}
    return {name: values_B for name, values_B in terms.items() if getattr(weights, name)}


def _encoder_term(
    output: StudentOutput, batch: Batch, weights: LossSettings, alignment: Alignment
) -> Tensor:
    target = batch.targets["encoder_logits"]
    assert isinstance(target, PosteriorBatch)
    assert output.ctc_logits_BTV is not None
    return aligned_posterior_kl(
        output.ctc_logits_BTV,
        output.frames_B,
        target,
        alignment.ratio,
        alignment.shifts_of("encoder_kl"),
        alignment.group,
        reduction="none",
        rest=weights.rest,
        ids=batch.ids,
    )


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
