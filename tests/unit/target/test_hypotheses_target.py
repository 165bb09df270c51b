from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.codec import make_codec
from kdcache.codec.records import HypothesesRecord
from kdcache.errors import ConfigError, TeacherOutputError, UnsupportedTargetError
from kdcache.target.hypotheses import HypothesesTarget
from kdcache.teacher.protocol import TeacherOutput
from tests.unit.target.conftest import ToyTransducer
from tests.unit.target.test_likelihood import ctc_truth, logits

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from kdcache.types import TeacherSpec

CODEC = make_codec("hypotheses", {"name": "fp32"})


def kept(target: HypothesesTarget, output: TeacherOutput) -> dict[tuple[int, ...], float]:
    record = CODEC.decode(target.reduce(output, CODEC).columns)
    assert isinstance(record, HypothesesRecord)
    found = [tuple(ids.tolist()) for ids in record.sequences()]
    return dict(zip(found, record.scores_H.tolist(), strict=True))


def ctc_output(logits_TV: Tensor, **parts: Any) -> TeacherOutput:
    frames = len(logits_TV)
    output = TeacherOutput(frames, (), torch.zeros(frames, 2), frame_logits_TV=logits_TV, blank=0)
    return replace(output, **parts)


def transducer_output(toy: ToyTransducer) -> TeacherOutput:
    frames = toy.lattice(()).shape[0]
    return TeacherOutput(frames, (), torch.zeros(frames, 2), lattice=toy.lattice(()))


def test_ctc_s_n_best_are_those_of_enumeration() -> None:
    logits_TV = logits(4, 4, seed=1)
    truth = ctc_truth(logits_TV, 0)
    found = kept(HypothesesTarget(n=5, beam=200), ctc_output(logits_TV))
    best = sorted(truth, key=lambda labels: -truth[labels])[:5]
    assert list(found) == best
    assert list(found.values()) == pytest.approx([truth[labels] for labels in best], abs=1e-4)


def test_a_narrow_beam_s_scores_are_whole_probabilities() -> None:
    """What fell out of the beam on the way is in the score all the same."""
    logits_TV = logits(5, 4, seed=2)
    truth = ctc_truth(logits_TV, 0)
    for labels, score in kept(HypothesesTarget(n=2, beam=2), ctc_output(logits_TV)).items():
        assert score == pytest.approx(truth[labels], abs=1e-4)


def test_a_transducers_scores_are_whole_probabilities() -> None:
    toy = ToyTransducer(frames=5, labels=4, seed=1)
    found = kept(HypothesesTarget(n=4, beam=6, max_symbols=2), transducer_output(toy))
    assert len(found) == 4
    for labels, score in found.items():
        assert score == pytest.approx(toy.likelihood(labels), abs=1e-4)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_best_of_the_whole_beam_are_kept() -> None:
    toy = ToyTransducer(frames=5, labels=4, seed=1)
    all_of_it = kept(HypothesesTarget(n=12, beam=12), transducer_output(toy))
    few = kept(HypothesesTarget(n=3, beam=12), transducer_output(toy))
    assert list(few.items()) == list(all_of_it.items())[:3]


def test_the_mass_of_what_is_not_kept() -> None:
    logits_TV = logits(3, 4, seed=3)
    truth = ctc_truth(logits_TV, 0)
    target = HypothesesTarget(n=3, beam=200)
    shown = target.reduce(ctc_output(logits_TV), CODEC).fidelity
    three = sorted(truth.values(), reverse=True)[:3]
    assert shown["mass_outside"] == pytest.approx(1 - math.fsum(map(math.exp, three)), abs=1e-5)
    everything = HypothesesTarget(n=200, beam=200).reduce(ctc_output(logits_TV), CODEC)
    assert everything.fidelity["mass_outside"] == pytest.approx(0, abs=1e-5)


def test_a_teacher_that_is_sure_of_silence() -> None:
    silent = torch.full((3, 4), -1e4)
    silent[:, 0] = 0
    assert kept(HypothesesTarget(n=2), ctc_output(silent))[()] == 0.0


def test_no_alignment_at_all_is_no_hypothesis() -> None:
    toy = ToyTransducer(frames=3, labels=2, seed=0, blank_bias=-math.inf)
    reduced = HypothesesTarget().reduce(transducer_output(toy), CODEC)
    assert {name: array.size for name, array in reduced.columns.items()} == {
        "ids": 0, "lengths": 0, "scores": 0,
    }  # fmt: skip
    assert reduced.fidelity == {"mass_outside": 1.0}


def test_the_same_output_gives_the_same_bytes(normal: Callable[..., Tensor]) -> None:
    output = ctc_output(normal(20, 9))
    first, second = (HypothesesTarget().reduce(output, CODEC).columns for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_what_is_missing_is_told(normal: Callable[..., Tensor]) -> None:
    lacking = "lacks what target 'hypotheses' is made of"
    whole = ctc_output(normal(5, 6))
    for gone in ("frame_logits_TV", "blank"):
        with pytest.raises(TeacherOutputError, match=lacking):
            HypothesesTarget().reduce(replace(whole, **{gone: None}), CODEC)
    bare = transducer_output(ToyTransducer(frames=3, labels=2, seed=0))
    assert bare.lattice is not None
    bare = replace(bare, lattice=replace(bare.lattice, predictor=None))
    with pytest.raises(TeacherOutputError, match=lacking):
        HypothesesTarget().reduce(bare, CODEC)
    with pytest.raises(TeacherOutputError, match="gave 5 frames of logits, expected 4"):
        HypothesesTarget().reduce(replace(whole, frames=4), CODEC)


def test_what_a_teacher_must_give(spec: Callable[..., TeacherSpec]) -> None:
    HypothesesTarget().check(spec("lattice"))
    HypothesesTarget().check(spec("encoder_logits", kind="ctc"))
    with pytest.raises(UnsupportedTargetError, match="of transducer teachers with lattice or ctc"):
        HypothesesTarget().check(spec("decoder_logits", kind="attention"))
    with pytest.raises(ConfigError, match="stored in 16 bits"):
        HypothesesTarget().check(spec("lattice", vocab_size=70_000))


def test_settings() -> None:
    assert HypothesesTarget().settings() == {"n": 8, "beam": 8, "max_symbols": 5}
    assert HypothesesTarget(n=600).settings()["beam"] == 600
    assert HypothesesTarget(**HypothesesTarget(n=3).settings()) == HypothesesTarget(n=3, beam=8)
    for bad in ({"n": 0}, {"n": "8"}, {"n": 4, "beam": 3}, {"beam": 2000}, {"max_symbols": 0}):
        with pytest.raises(ConfigError, match="expected an integer from"):
            HypothesesTarget(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "lengths", "ids", "message"),
    [
        ([-1.0], [2], [3], "expected a length for each"),
        ([-1.0, -2.0], [1], [3], "expected a length for each"),
        ([-1.0, -2.0], [3, -1], [3, 4], "expected a length for each"),
        ([np.nan], [1], [3], "among the scores"),
        ([-1.0], [70_000], [0] * 70_000, "is longer than the 65,535 that fit"),
    ],
)
def test_the_codec_refuses_what_is_no_list(
    scores: list[float], lengths: list[int], ids: list[int], message: str
) -> None:
    record = HypothesesRecord(np.array(scores, np.float32), np.array(lengths), np.array(ids))
    with pytest.raises(TeacherOutputError, match=message):
        CODEC.encode(record)
