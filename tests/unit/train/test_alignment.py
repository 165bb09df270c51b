"""Frame rates, time shifts and ramps: settings, and what they make of the objective."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.batch import Batch, PosteriorBatch
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.lattice import BandRule, rnnt_loss
from kdcache.loss import (
    FrameRatio,
    aligned_posterior_kl,
    collapse_lattice,
    lattice_kl,
    merge_frames,
    posterior_kl,
)
from kdcache.student import StudentOutput
from kdcache.train.align_settings import AlignSettings
from kdcache.train.alignment import SIDE_BY_SIDE, Alignment, alignment_of
from kdcache.train.objective import loss_terms
from kdcache.train.settings import LossSettings

if TYPE_CHECKING:
    from torch import Tensor

BLANK = 6
LOSS = LossSettings.model_validate({"lattice_kl": 1.0, "encoder_kl": 1.0})


def make(teacher: list[int], student: list[int], *, width: int | None = None) -> tuple[
    StudentOutput, Batch
]:  # fmt: skip
    """A student and a teacher with frames of their own, two utterances of 3 and 1 labels."""
    generator = torch.Generator().manual_seed(0)
    lengths, labels = torch.tensor([3, 1]), torch.randint(0, BLANK, (2, 3), generator=generator)
    head = torch.randn(4, 7, generator=generator)
    output = StudentOutput(
        encoder_BTJ=torch.randn(2, max(student), 4, generator=generator).requires_grad_(),
        decoder_BUJ=torch.randn(2, 4, 4, generator=generator),
        joint=lambda decoder, encoder: torch.tanh(decoder + encoder) @ head,
        frames_B=torch.tensor(student),
        hidden_BTD=torch.zeros(2, max(student), 2),
        ctc_logits_BTV=torch.randn(2, max(student), 7, generator=generator),
    )
    logits = torch.randn(2, max(teacher), 4, 7, generator=generator)
    frames = torch.tensor(teacher)
    rule = BandRule(width=width)
    lattice = collapse_lattice(logits, labels, frames, lengths, BLANK, 1, rule)
    q, ids = logits[:, :, 0].softmax(-1).sort(-1, descending=True)
    kept = torch.cat([q[..., :3], q[..., 3:].sum(-1, keepdim=True)], -1).log()
    targets: dict[str, Any] = {
        "lattice": lattice,
        "encoder_logits": PosteriorBatch(kept, ids[..., :3], frames),
    }
    batch = Batch(("a", "b"), ("", ""), labels, lengths, None, None, targets)
    return output, batch


def posteriors(batch: Batch) -> PosteriorBatch:
    target = batch.targets["encoder_logits"]
    assert isinstance(target, PosteriorBatch)
    return target


def ctc(output: StudentOutput) -> Tensor:
    assert output.ctc_logits_BTV is not None
    return output.ctc_logits_BTV


def test_a_slower_student_is_compared_with_the_merged_lattice() -> None:
    output, batch = make([8, 5], [4, 3])
    terms = loss_terms(output, batch, BLANK, LOSS, Alignment(FrameRatio(2, 1)))
    logits, merged = output.lattice_logits(), merge_frames(batch.lattice, 2)
    expected = lattice_kl(logits, merged, batch.labels_BU, BLANK, "none")
    torch.testing.assert_close(terms["lattice_kl"], expected)
    own = (batch.labels_BU, output.frames_B, batch.label_lengths_B)
    torch.testing.assert_close(terms["rnnt"], rnnt_loss(logits, *own, BLANK, "none"))
    twice = ctc(output).repeat_interleave(2, 1)
    expected = posterior_kl(twice, posteriors(batch), reduction="none") / 2
    torch.testing.assert_close(terms["encoder_kl"], expected)


def test_a_faster_student_may_stay_in_the_band() -> None:
    output, batch = make([4, 2], [8, 4], width=2)
    asked = LOSS.model_copy(update={"rnnt_in_band": True})
    terms = loss_terms(output, batch, BLANK, asked, Alignment(FrameRatio(1, 2)))
    assert all(values.isfinite().all() for values in terms.values())
    whole = loss_terms(output, batch, BLANK, LOSS, Alignment(FrameRatio(1, 2)))
    torch.testing.assert_close(terms["lattice_kl"], whole["lattice_kl"])


def test_shifts_and_groups_reach_their_terms() -> None:
    output, batch = make([8, 5], [8, 5])
    shifts = {"lattice_kl": range(2, 3), "encoder_kl": range(4)}
    terms = loss_terms(output, batch, BLANK, LOSS, Alignment(shifts=shifts))
    plain = loss_terms(output, batch, BLANK, LOSS)
    torch.testing.assert_close(terms["rnnt"], plain["rnnt"])
    (grad,) = torch.autograd.grad(terms["lattice_kl"].sum(), output.encoder_BTJ)
    assert (grad[0, :2] == 0).all()
    assert (grad[0, 2:].abs().sum(-1) > 0).all()
    target, frames = posteriors(batch), output.frames_B
    expected = aligned_posterior_kl(ctc(output), frames, target, shifts=range(4), reduction="none")
    assert torch.equal(terms["encoder_kl"], expected)
    slow, batch = make([8, 4], [4, 2])
    picked = Alignment(FrameRatio(2, 1), "pick")
    every_second = replace(
        posteriors(batch),
        logp_BNC=posteriors(batch).logp_BNC[:, ::2],
        ids_BNK=posteriors(batch).ids_BNK[:, ::2],
        lengths_B=torch.tensor([4, 2]),
    )
    found = loss_terms(slow, batch, BLANK, LOSS, picked)["encoder_kl"]
    torch.testing.assert_close(found, posterior_kl(ctc(slow), every_second, reduction="none"))


def test_the_rest_is_spread_where_asked() -> None:
    output, batch = make([4, 2], [4, 2])
    asked = LOSS.model_copy(update={"rest": "spread"})
    found = loss_terms(output, batch, BLANK, asked)["encoder_kl"]
    expected = posterior_kl(ctc(output), posteriors(batch), reduction="none", rest="spread")
    assert torch.equal(found, expected)
    assert not torch.allclose(found, loss_terms(output, batch, BLANK, LOSS)["encoder_kl"])


def test_other_rates_are_told_by_name() -> None:
    output, batch = make([8, 8], [8, 4])
    for weights in ({"lattice_kl": 1.0}, {"encoder_kl": 1.0}):
        loss = LossSettings.model_validate(weights)
        with pytest.raises(
            SpecMismatchError, match="'b': the teacher has 8 frames and the student 4; expected 1/1"
        ):
            loss_terms(output, batch, BLANK, loss)


def test_the_ratio_is_by_frame_shifts_unless_it_is_set() -> None:
    settings = AlignSettings()
    assert alignment_of(settings, LOSS, 0.04, 0.08).ratio == FrameRatio(2, 1)
    assert alignment_of(settings, LOSS, 0.08, 0.04).ratio == FrameRatio(1, 2)
    assert alignment_of(settings, LOSS, None, 0.04) == SIDE_BY_SIDE
    assert alignment_of(settings, LossSettings(), 0.06, 0.04) == SIDE_BY_SIDE
    with pytest.raises(ConfigError, match="an integer multiple"):
        alignment_of(settings, LOSS, 0.06, 0.04)
    asked = AlignSettings(frame_ratio="1/4", group="pick")
    found = alignment_of(asked, LOSS, 0.06, 0.04)
    assert (found.ratio, found.group) == (FrameRatio(1, 4), "pick")


def test_shifts_are_numbers_or_ranges() -> None:
    settings = AlignSettings.model_validate(
        {"time_shift": {"lattice_kl": 2, "encoder_kl": {"max": 3}}}
    )
    found = alignment_of(settings, LOSS, 0.04, 0.04)
    assert list(found.shifts_of("lattice_kl")) == [2]
    assert list(found.shifts_of("encoder_kl")) == [0, 1, 2, 3]
    assert list(SIDE_BY_SIDE.shifts_of("encoder_kl")) == [0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frame_ratio": "2/3"}, "should be a ratio such as 2/1 or 1/2, got '2/3'"),
        ({"group": "max"}, "mean"),
        ({"time_shift": {"encoder_k": 1}}, "got 'encoder_k'. Did you mean 'encoder_kl'"),
        (
            {"time_shift": {"encoder_kl": {"min": 3, "max": 1}}},
            "min at most max, got 3 and 1 for encoder_kl",
        ),
        ({"time_shift": {"encoder_kl": 5000}}, "at most 1000 frames, got 5000 for encoder_kl"),
        ({"time_shift": {"lattice_kl": {"max": 2}}}, "should be one number for lattice_kl"),
    ],
)
def test_impossible_alignments_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlignSettings.model_validate(values)


def test_a_ramp_is_a_straight_line() -> None:
    ramp = {"start": 2, "steps": 4, "initial": 0.2}
    loss = LossSettings.model_validate({"lattice_kl": 1.0, "ramps": {"lattice_kl": ramp}})
    weights = [loss.at(step).lattice_kl for step in range(8)]
    assert weights == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    assert loss.at(7).lattice_kl == 1.0
    assert all(loss.at(step).rnnt == 1.0 for step in range(8))
    falling = LossSettings.model_validate(
        {"ctc": 0.1, "ramps": {"ctc": {"steps": 2, "initial": 0.5}}}
    )
    assert [falling.at(step).ctc for step in range(3)] == pytest.approx([0.3, 0.1, 0.1])


def test_while_its_weight_is_0_a_term_is_not_computed() -> None:
    output, batch = make([8, 4], [8, 4])
    ramps = {"lattice_kl": {"start": 1, "steps": 2}}
    loss = LossSettings.model_validate({"lattice_kl": 0.5, "ramps": ramps})
    assert loss.at(0).weights() == {"rnnt": 1.0}
    assert loss_terms(output, batch, BLANK, loss.at(0)).keys() == {"rnnt"}
    assert loss.at(1).weights() == {"rnnt": 1.0, "lattice_kl": 0.25}


def test_without_ramps_the_settings_are_themselves() -> None:
    assert LOSS.at(3) is LOSS


def test_a_ramp_of_no_term_is_refused_and_one_of_an_idle_term_is_idle() -> None:
    with pytest.raises(ValueError, match="got 'latice_kl'. Did you mean 'lattice_kl'"):
        LossSettings.model_validate({"ramps": {"latice_kl": {"steps": 5}}})
    idle = LossSettings.model_validate({"ramps": {"lattice_kl": {"steps": 5, "initial": 1}}})
    assert idle.at(0).lattice_kl == 0
