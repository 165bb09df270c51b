from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from kdcache.codec import make_codec
from kdcache.codec.records import ScoreRecord
from kdcache.errors import TeacherOutputError, UnsupportedTargetError
from kdcache.target.full_sum import FullSumTarget
from kdcache.target.likelihood import ctc_likelihoods, lattice_likelihood, token_likelihood
from kdcache.teacher.protocol import TeacherOutput
from tests.unit.target.conftest import lattice_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from kdcache.types import TeacherSpec

CODEC = make_codec("score", {"name": "fp32"})


def score_of(output: TeacherOutput) -> float:
    record = CODEC.decode(FullSumTarget().reduce(output, CODEC).columns)
    assert isinstance(record, ScoreRecord)
    return float(record.score_1[0])


def test_each_kind_of_teacher_by_its_own_posteriors(normal: Callable[..., Tensor]) -> None:
    transducer = lattice_output(normal(5, 3, 6), (1, 2), 5, frame_logits_TV=normal(5, 6))
    assert transducer.lattice is not None
    expected = lattice_likelihood(transducer.lattice, (1, 2))
    assert score_of(transducer) == pytest.approx(expected, rel=1e-6)
    nothing = torch.zeros(5, 2)
    ctc = TeacherOutput(5, (1, 2), nothing, frame_logits_TV=normal(5, 6), blank=0)
    assert score_of(ctc) == pytest.approx(ctc_likelihoods(normal(5, 6), [(1, 2)], 0)[0], rel=1e-6)
    attention = TeacherOutput(5, (1, 2), nothing, token_logits_UV=normal(3, 6), end=4)
    expected = token_likelihood(normal(3, 6), (1, 2), 4)
    assert score_of(attention) == pytest.approx(expected, rel=1e-6)


def test_what_the_catalogue_shows(normal: Callable[..., Tensor]) -> None:
    output = lattice_output(normal(5, 3, 6), (1, 2), 5)
    shown = FullSumTarget().reduce(output, CODEC).fidelity
    assert shown == {"nats_per_label": pytest.approx(-score_of(output) / 2)}
    silent = lattice_output(normal(5, 1, 6), (), 5)
    shown = FullSumTarget().reduce(silent, CODEC).fidelity
    assert shown == {"nats_per_label": pytest.approx(-score_of(silent))}


def test_a_transcript_without_alignment_is_kept_as_that(normal: Callable[..., Tensor]) -> None:
    output = TeacherOutput(2, (1, 2, 1), torch.zeros(2, 2), frame_logits_TV=normal(2, 6), blank=0)
    reduced = FullSumTarget().reduce(output, CODEC)
    assert reduced.columns["scores"].tolist() == [-math.inf]
    assert reduced.fidelity == {}


def test_what_is_missing_is_told(normal: Callable[..., Tensor]) -> None:
    whole = TeacherOutput(5, (1,), torch.zeros(5, 2), frame_logits_TV=normal(5, 6), blank=0)
    lacking = "lacks what target 'full_sum' is made of"
    with pytest.raises(TeacherOutputError, match=lacking):
        FullSumTarget().reduce(replace(whole, frame_logits_TV=None), CODEC)
    with pytest.raises(TeacherOutputError, match=lacking):
        FullSumTarget().reduce(replace(whole, blank=None), CODEC)
    with pytest.raises(TeacherOutputError, match=lacking):
        FullSumTarget().reduce(replace(whole, token_logits_UV=normal(2, 6)), CODEC)
    with pytest.raises(TeacherOutputError, match="gave 5 frames of logits, expected 4"):
        FullSumTarget().reduce(replace(whole, frames=4), CODEC)


def test_what_a_teacher_must_give(spec: Callable[..., TeacherSpec]) -> None:
    FullSumTarget().check(spec("lattice"))
    FullSumTarget().check(spec("encoder_logits", kind="ctc"))
    FullSumTarget().check(spec("decoder_logits", kind="attention"))
    with pytest.raises(UnsupportedTargetError, match="'full_sum', which is of transducer teachers"):
        FullSumTarget().check(spec("encoder_logits"))


def test_there_are_no_settings() -> None:
    assert FullSumTarget().settings() == {}
    assert FullSumTarget().default_codec() == {"name": "fp32"}


def test_the_codec_refuses_what_is_no_log_probability() -> None:
    for bad in (np.inf, np.nan):
        with pytest.raises(TeacherOutputError, match="among the scores"):
            CODEC.encode(ScoreRecord(np.array([bad], np.float32)))
    with pytest.raises(TeacherOutputError, match=r"expected one score, got .* shape \(2,\)"):
        CODEC.encode(ScoreRecord(np.zeros(2, np.float32)))
