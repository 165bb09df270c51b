"""The terms of the student's loss, each (B,) nats, from its output and the cached targets.

Where the cached lattice is a band, KL_lattice and a penalty on certain nodes are over the band's
nodes. L_RNNT is over the whole lattice all the same, unless it is asked to stay in the band
(``loss.rnnt_in_band``): then nothing needs the other nodes, and the joint network is evaluated at
T×S of them instead of T×U. Either way it is evaluated block by block where it is large, and no
lattice of logits is ever held. The full sum's P_S is that of L_RNNT.

Teacher and student need not have the same frames: see ``kdcache.loss.pairs``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import ctc_loss
from torch.utils.checkpoint import checkpoint

from kdcache.batch import HypothesesBatch, PosteriorBatch, ScoreBatch, VectorBatch
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.lattice import rnnt_loss
from kdcache.loss import (
    align_lattice,
    aligned_codebook_cross_entropy,
    aligned_posterior_kl,
    aligned_sequence_kd,
    aligned_vector_mse,
    full_sum_distance,
    hypotheses_nll,
    lf_mmi_loss,
    load_denominator,
    posterior_kl,
    token_cross_entropy,
)
from kdcache.loss.alignments import alignment_kl_at_nodes, best_path_kl_at_nodes
from kdcache.loss.classes import parse_target
from kdcache.loss.confidence import confidence_at_nodes, rnnt_and_confidence
from kdcache.loss.lattice import kl_at_nodes, rnnt_and_classes

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.batch import Batch
    from kdcache.loss import Denominator
    from kdcache.student import StudentOutput
    from kdcache.train.alignment import Alignment
    from kdcache.train.settings import LossSettings


def transducer_terms(
    output: StudentOutput, batch: Batch, blank: int, weights: LossSettings, alignment: Alignment
) -> dict[str, Tensor]:
    """What one pass over the student's lattice gives; more than is asked for, perhaps."""
    lengths = (output.frames_B, batch.label_lengths_B)
    if weights.lattice_kl or weights.alignment_kl or weights.best_path_kl:
        terms = _lattice_terms(output, batch, blank, weights, alignment)
    elif weights.confidence:
        found = rnnt_and_confidence(output.factored(), batch.labels_BU, *lengths, blank)
        terms = dict(zip(("rnnt", "confidence"), found, strict=True))
    elif weights.rnnt or weights.full_sum:
        terms = {"rnnt": rnnt_loss(output.factored(), batch.labels_BU, *lengths, blank, "none")}
    else:
        return {}
    if weights.full_sum:
        target = batch.targets["full_sum"]
        assert isinstance(target, ScoreBatch)
        terms["full_sum"] = full_sum_distance(terms["rnnt"], target, "none")
    return terms


def encoder_term(
    output: StudentOutput, batch: Batch, weights: LossSettings, alignment: Alignment
) -> Tensor:
    """Divergence of the teacher's frame posteriors from the student's: of its encoder's own logits
    where the joint network only adds, else of its CTC head."""
    target = batch.targets["encoder_logits"]
    assert isinstance(target, PosteriorBatch)
    return aligned_posterior_kl(
        _head(output.frame_logits(), "encoder_kl"),
        output.frames_B,
        target,
        alignment.ratio,
        alignment.shifts_of("encoder_kl"),
        alignment.group,
        reduction="none",
        rest=weights.rest,
        temperature=weights.encoder_temperature,
        ids=batch.ids,
    )


def ctc_term(output: StudentOutput, batch: Batch, blank: int) -> Tensor:
    """CTC loss of the CTC head."""
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


def logit_term(output: StudentOutput, batch: Batch, alignment: Alignment) -> Tensor:
    """Squared error of the CTC projection's logits from the teacher's."""
    assert output.ctc_logits_BTV is not None
    return _vector_term(
        output.ctc_logits_BTV, output, batch, "frame_logits", alignment, "logit_mse"
    )


def lf_mmi_term(output: StudentOutput, batch: Batch, weights: LossSettings) -> Tensor:
    """Lattice-free MMI of the transcripts."""
    logits_BTV = output.ctc_logits_BTV
    assert logits_BTV is not None
    labels = (batch.labels_BU, batch.label_lengths_B)
    return lf_mmi_loss(logits_BTV, output.frames_B, *labels, _graph(weights, logits_BTV), "none")


def sequence_term(
    output: StudentOutput, batch: Batch, weights: LossSettings, alignment: Alignment
) -> Tensor:
    """Divergence of the teacher's distribution over paths from the student's."""
    target, logits_BTV = batch.targets["encoder_logits"], output.ctc_logits_BTV
    assert isinstance(target, PosteriorBatch)
    assert logits_BTV is not None
    return aligned_sequence_kd(
        logits_BTV,
        output.frames_B,
        target,
        _graph(weights, logits_BTV),
        alignment.ratio,
        alignment.shifts_of("sequence_kd"),
        alignment.group,
        reduction="none",
        ids=batch.ids,
    )


def _graph(weights: LossSettings, like: Tensor) -> Denominator:
    """The settings' denominator, read once, where the logits are."""
    assert weights.denominator is not None
    return load_denominator(weights.denominator, str(like.device))


def hypotheses_term(output: StudentOutput, batch: Batch, blank: int) -> Tensor:
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
        assert output.encoder_BTJ is not None
        return output.encoder_BTJ.sum((1, 2)) * 0.0
    return hypotheses_nll(torch.stack(losses, dim=1), target, reduction="none")


def hidden_terms(
    output: StudentOutput, batch: Batch, weights: LossSettings, alignment: Alignment
) -> dict[str, Tensor]:
    """What is learnt from the teacher's hidden states: the vectors, or their entries."""
    if output.layer_vectors:
        return {"hidden_mse": _layers_term(output, batch, alignment)}
    target = batch.targets["hidden"]
    assert isinstance(target, VectorBatch)
    terms = {}
    for name, loss, values in (
        ("hidden_mse", aligned_vector_mse, output.vectors_BTD),
        ("hidden_codes", aligned_codebook_cross_entropy, output.codes_BTQE),
    ):
        if getattr(weights, name):
            terms[name] = loss(
                _head(values, name),
                output.frames_B,
                target,
                alignment.ratio,
                alignment.shifts_of(name),
                alignment.group,
                reduction="none",
                ids=batch.ids,
            )
    return terms


def attention_terms(
    output: StudentOutput, batch: Batch, blank: int, weights: LossSettings
) -> dict[str, Tensor]:
    """What the attention decoder learns from: the transcript, and the teacher's decoder."""
    logits_BUV = _head(output.attention_logits_BUV, "attention")
    terms = {}
    if weights.attention:
        terms["attention"] = token_cross_entropy(
            logits_BUV,
            batch.labels_BU,
            batch.label_lengths_B,
            blank,
            weights.label_smoothing,
            reduction="none",
        )
    if weights.decoder_kl:
        target = batch.targets["decoder_logits"]
        assert isinstance(target, PosteriorBatch)
        _check_labels(batch.ids, target.lengths_B - 1, batch.label_lengths_B)
        if weights.decoder_end is not None:
            own = target.ids_BNK == weights.decoder_end
            target = replace(target, ids_BNK=target.ids_BNK.masked_fill(own, blank))
        terms["decoder_kl"] = posterior_kl(logits_BUV, target, reduction="none", rest=weights.rest)
    return terms


def _layers_term(output: StudentOutput, batch: Batch, alignment: Alignment) -> Tensor:
    """The sum over a student's layers, each with a target of its own."""
    parts = [
        _vector_term(vectors_BTD, output, batch, name, alignment, "hidden_mse")
        for name, vectors_BTD in output.layer_vectors.items()
    ]
    return torch.stack(parts).sum(0)


def _vector_term(
    values_BTD: Tensor,
    output: StudentOutput,
    batch: Batch,
    name: str,
    alignment: Alignment,
    term: str,
) -> Tensor:
    """Squared error of vectors from the target of a name."""
    target = batch.targets[name]
    assert isinstance(target, VectorBatch)
    return aligned_vector_mse(
        values_BTD,
        output.frames_B,
        target,
        alignment.ratio,
        alignment.shifts_of(term),
        alignment.group,
        reduction="none",
        ids=batch.ids,
    )


def _lattice_terms(
    output: StudentOutput, batch: Batch, blank: int, weights: LossSettings, alignment: Alignment
) -> dict[str, Tensor]:
    """RNN-T loss and what is learnt from the cached lattice, from one pass over the vocabulary."""
    (shift,) = alignment.shifts_of("lattice_kl")
    frames = (output.frames_B, alignment.ratio, shift)
    target = align_lattice(batch.lattice, *frames, batch.ids)
    whole = weights.rnnt or weights.full_sum
    in_band = target.starts_BT is not None and (weights.rnnt_in_band or not whole)
    _check_labels(batch.ids, target.labels_B, batch.label_lengths_B)
    rnnt_B, logp_BTSC = rnnt_and_classes(
        output.factored(), target, batch.labels_BU, blank, "band" if in_band else "lattice"
    )
    terms = {"rnnt": rnnt_B}
    if weights.lattice_kl:
        terms["lattice_kl"] = kl_at_nodes(target, logp_BTSC)
    if weights.alignment_kl:
        terms["alignment_kl"] = alignment_kl_at_nodes(target, logp_BTSC, rnnt_B)
    if weights.best_path_kl:
        terms["best_path_kl"] = best_path_kl_at_nodes(target, logp_BTSC)
    if weights.confidence:
        terms["confidence"] = confidence_at_nodes(logp_BTSC, target.frames_B, parse_target(target))
    return terms


_HEADS = {
    "encoder_kl": "ctc_head and no additive joint",
    "hidden_mse": "hidden_head",
    "hidden_codes": "codebook_head",
    "attention": "attention decoder",
}


def _head(given: Tensor | None, term: str) -> Tensor:
    """What a head of the student gives, which it lacks where it was begun from one without."""
    if given is None:
        raise ConfigError(
            f"The student has no {_HEADS[term]}, which the loss needs; the student that `init` "
            "names was trained without. Start from one that has it, or from none."
        )
    return given


def _check_labels(ids: tuple[str, ...], teacher_B: Tensor, student_B: Tensor) -> None:
    wrong = (teacher_B != student_B).nonzero()[:, 0].tolist()
    if wrong:
        row = wrong[0]
        raise SpecMismatchError(
            f"Utterance {ids[row]!r}: the teacher has {int(teacher_B[row])} labels and the "
            f"student {int(student_B[row])}; give the student the teacher's tokenizer."
        )
