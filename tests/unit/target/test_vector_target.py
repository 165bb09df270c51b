from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdcache.codec import make_codec
from kdcache.codec.records import VectorRecord
from kdcache.errors import ConfigError, TeacherOutputError, UnsupportedTargetError
from kdcache.target.vector import FeaturesTarget, FrameLogitsTarget, HiddenTarget
from kdcache.teacher.protocol import TeacherOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.types import TeacherSpec


def _output(hidden_TD: Tensor, features_FM: Tensor | None = None) -> TeacherOutput:
    return TeacherOutput(frames=5, tokens=(), hidden_TD=hidden_TD, features_FM=features_FM)


@pytest.mark.parametrize("codec", ["fp16", "int8"])
@pytest.mark.parametrize(("made", "rows", "width"), [(HiddenTarget, 5, 3), (FeaturesTarget, 20, 4)])
def test_packs_and_measures(
    normal: Callable[..., Tensor], codec: str, made: Any, rows: int, width: int
) -> None:
    hidden, features = normal(5, 3), normal(20, 4, seed=1)
    values = {HiddenTarget: hidden, FeaturesTarget: features}[made]
    packer = make_codec("vector", {"name": codec})
    reduced = made().reduce(_output(hidden, features), packer)
    decoded = packer.decode(reduced.columns)
    assert isinstance(decoded, VectorRecord)
    assert decoded.values_TD.shape == (rows, width)
    error = np.abs(values.double().numpy() - decoded.values_TD)
    assert reduced.fidelity == pytest.approx({"error_mean": error.mean(), "error_max": error.max()})
    assert 0 < reduced.fidelity["error_max"] < 0.1


def test_half_precision_is_kept_exactly(normal: Callable[..., Tensor]) -> None:
    hidden = normal(5, 3).half()
    reduced = HiddenTarget().reduce(_output(hidden), make_codec("vector", {"name": "fp16"}))
    assert reduced.fidelity == {"error_mean": 0.0, "error_max": 0.0}


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_values_that_are_no_numbers(normal: Callable[..., Tensor], bad: float) -> None:
    hidden = normal(5, 3)
    hidden[2, 1] = bad
    with pytest.raises(TeacherOutputError, match="gave NaN or infinite hidden"):
        HiddenTarget().reduce(_output(hidden), make_codec("vector", {"name": "fp16"}))


def test_shapes_that_cannot_be(normal: Callable[..., Tensor]) -> None:
    codec = make_codec("vector", {"name": "fp16"})
    with pytest.raises(TeacherOutputError, match="gave 4 frames of hidden states, expected 5"):
        HiddenTarget().reduce(_output(normal(4, 3)), codec)
    with pytest.raises(TeacherOutputError, match="gave 0 frames of features"):
        FeaturesTarget().reduce(_output(normal(5, 3), torch.zeros(0, 3)), codec)
    with pytest.raises(TeacherOutputError, match="lacks what target 'features' is made of"):
        FeaturesTarget().reduce(_output(normal(5, 3)), codec)


def test_what_a_teacher_must_give(spec: Callable[..., TeacherSpec]) -> None:
    HiddenTarget().check(spec("hidden"))
    FeaturesTarget().check(spec("features"))
    with pytest.raises(UnsupportedTargetError, match="cannot give target 'features'"):
        FeaturesTarget().check(spec("hidden"))


def test_there_are_no_settings() -> None:
    assert HiddenTarget().settings() == FeaturesTarget().settings() == {}


def test_a_layer_is_kept_in_place_of_the_last_states(normal: Callable[..., Tensor]) -> None:
    states = {2: normal(5, 3, seed=2).half(), 7: normal(5, 3, seed=7).half()}
    output = replace(_output(normal(5, 3)), layers=states)
    codec = make_codec("vector", {"name": "fp16"})
    for number, state in states.items():
        target = HiddenTarget(layer=number)
        assert target.settings() == {"layer": number}
        assert target.layers == (number,)
        decoded = codec.decode(target.reduce(output, codec).columns)
        np.testing.assert_array_equal(decoded.values_TD, state.float().numpy())
    with pytest.raises(TeacherOutputError, match="does not give layer 3"):
        HiddenTarget(layer=3).reduce(output, codec)
    assert HiddenTarget().layers == ()


@pytest.mark.parametrize("layer", [0, -1, True])
def test_a_layer_that_cannot_be(layer: int) -> None:
    with pytest.raises(ConfigError, match="from 1"):
        HiddenTarget(layer=layer)


def test_logits_are_kept_as_they_are(
    normal: Callable[..., Tensor], spec: Callable[..., TeacherSpec]
) -> None:
    logits = normal(5, 9).half()
    codec = make_codec("vector", {"name": "fp16"})
    output = replace(_output(normal(5, 3)), frame_logits_TV=logits)
    decoded = codec.decode(FrameLogitsTarget().reduce(output, codec).columns)
    np.testing.assert_array_equal(decoded.values_TD, logits.float().numpy())
    FrameLogitsTarget().check(spec("encoder_logits"))
    with pytest.raises(UnsupportedTargetError, match="cannot give target"):
        FrameLogitsTarget().check(spec("hidden"))
    with pytest.raises(TeacherOutputError, match="lacks what target 'frame_logits'"):
        FrameLogitsTarget().reduce(_output(normal(5, 3)), codec)
