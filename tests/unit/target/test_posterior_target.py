from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdcache.codec import TailModel, make_codec
from kdcache.codec.records import PosteriorRecord
from kdcache.errors import ConfigError, TeacherOutputError, UnsupportedTargetError
from kdcache.target.posterior import DecoderLogitsTarget, EncoderLogitsTarget, collapse_rows
from kdcache.teacher.protocol import TeacherOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.types import TeacherSpec

TARGETS = [(EncoderLogitsTarget, "frame_logits_TV"), (DecoderLogitsTarget, "token_logits_UV")]


def _output(field: str, logits_NV: Tensor | None, rows: int | None = None) -> TeacherOutput:
    """An output of six frames and five tokens, so that both kinds have six rows."""
    rows = 6 if rows is None else rows
    return TeacherOutput(
        frames=rows,
        tokens=tuple(range(rows - 1)),
        hidden_TD=torch.zeros(rows, 2),
        **{field: logits_NV},
    )


def dense(logits_NV: Tensor, top_k: int) -> PosteriorRecord:
    """The definition, row by row, in float64."""
    rows, vocabulary = logits_NV.shape
    logp = logits_NV.double().log_softmax(-1).numpy()
    out, ids = np.full((rows, top_k + 1), -np.inf), np.zeros((rows, top_k), int)
    for n in range(rows):
        order = sorted(range(vocabulary), key=lambda i: -logp[n, i])
        ids[n] = order[:top_k]
        out[n, :top_k] = logp[n, order[:top_k]]
        if order[top_k:]:
            out[n, -1] = np.log(np.exp(logp[n, order[top_k:]]).sum())
    return PosteriorRecord(out, ids)


@pytest.mark.parametrize("top_k", [1, 4, 12])
def test_against_the_definition(normal: Callable[..., Tensor], top_k: int) -> None:
    logits = normal(9, 12)
    record, _ = collapse_rows(logits, top_k)
    expected = dense(logits, top_k)
    np.testing.assert_allclose(record.logp_NC, expected.logp_NC, atol=1e-5)
    np.testing.assert_array_equal(record.ids_NK, expected.ids_NK)
    assert (record.logp_NC.dtype, record.ids_NK.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("budget", [1, 25, 50, 2**24])
def test_blocks_change_nothing(normal: Callable[..., Tensor], budget: int) -> None:
    logits = normal(9, 12)
    (whole, spread), (parts, other) = collapse_rows(logits, 3), collapse_rows(logits, 3, budget)
    np.testing.assert_array_equal(parts.logp_NC, whole.logp_NC)
    np.testing.assert_array_equal(parts.ids_NK, whole.ids_NK)
    np.testing.assert_array_equal(other, spread)


@pytest.mark.parametrize(("made", "field"), TARGETS)
@pytest.mark.parametrize("codec", ["log8", "fp16"])
def test_fidelity_against_brute_force(
    normal: Callable[..., Tensor], made: Any, field: str, codec: str
) -> None:
    logits, top_k = 0.4 * normal(6, 10, seed=5), 3
    packer = make_codec("posterior", {"name": codec})
    reduced = made(top_k=top_k).reduce(_output(field, logits), packer)
    decoded = packer.decode(reduced.columns)
    assert isinstance(decoded, PosteriorRecord)
    expected, logp = dense(logits, top_k).logp_NC, logits.double().log_softmax(-1).numpy()
    kept = (np.exp(expected) * (expected - decoded.logp_NC)).sum(-1)
    full = []
    for row in range(6):
        q = np.full(10, decoded.logp_NC[row, -1] - np.log(10 - top_k))
        q[decoded.ids_NK[row]] = decoded.logp_NC[row, :-1]
        full.append((np.exp(logp[row]) * (logp[row] - q)).sum())
    assert reduced.fidelity == pytest.approx(
        {
            "kl_mean": kept.mean(),
            "kl_max": kept.max(),
            "kl_full_mean": np.mean(full),
            "kl_full_max": np.max(full),
        },
        abs=1e-6,
    )
    assert reduced.fidelity["kl_full_mean"] > reduced.fidelity["kl_mean"] > 0


@pytest.mark.parametrize(("made", "field"), TARGETS)
def test_each_reads_its_own_logits(normal: Callable[..., Tensor], made: Any, field: str) -> None:
    logits = normal(6, 12)
    codec = make_codec("posterior", {"name": "fp16"})
    columns = made(top_k=2).reduce(_output(field, logits), codec).columns
    decoded = codec.decode(columns)
    assert isinstance(decoded, PosteriorRecord)
    np.testing.assert_array_equal(decoded.ids_NK, dense(logits, 2).ids_NK)
    other = next(name for _, name in TARGETS if name != field)
    with pytest.raises(TeacherOutputError, match=f"lacks what target '{made.kind}' is made of"):
        made(top_k=2).reduce(_output(other, logits), codec)


@pytest.mark.parametrize(("made", "field"), TARGETS)
def test_rows_that_cannot_be(normal: Callable[..., Tensor], made: Any, field: str) -> None:
    codec = make_codec("posterior", {"name": "log8"})
    with pytest.raises(TeacherOutputError, match=r"gave 6 \w+ of logits, expected 4"):
        made(top_k=2).reduce(_output(field, normal(6, 5), rows=4), codec)


@pytest.mark.parametrize(("made", "field"), TARGETS)
def test_nan(normal: Callable[..., Tensor], made: Any, field: str) -> None:
    logits = normal(6, 5)
    logits[3, 2] = float("nan")
    with pytest.raises(TeacherOutputError, match="NaN or infinite logits"):
        made(top_k=2).reduce(_output(field, logits), make_codec("posterior", {"name": "log8"}))


def test_what_a_teacher_must_give(spec: Callable[..., TeacherSpec]) -> None:
    EncoderLogitsTarget().check(spec("encoder_logits", kind="ctc"))
    DecoderLogitsTarget().check(spec("decoder_logits", kind="attention"))
    with pytest.raises(UnsupportedTargetError, match="cannot give target 'decoder_logits'"):
        DecoderLogitsTarget().check(spec("encoder_logits", kind="ctc"))
    with pytest.raises(UnsupportedTargetError, match="cannot give target 'encoder_logits'"):
        EncoderLogitsTarget().check(spec("lattice", "hidden"))


def test_more_classes_than_the_teacher_has(spec: Callable[..., TeacherSpec]) -> None:
    teacher = spec("encoder_logits", kind="ctc", vocab_size=5)
    EncoderLogitsTarget(top_k=5).check(teacher)
    with pytest.raises(UnsupportedTargetError, match="keeps top_k 6 classes, but teacher 't' has"):
        EncoderLogitsTarget(top_k=6).check(teacher)


def test_a_vocabulary_that_16_bits_do_not_hold(spec: Callable[..., TeacherSpec]) -> None:
    with pytest.raises(ConfigError, match="65,535 classes exceeds the 65,534"):
        EncoderLogitsTarget(min_p=0.1).check(spec("encoder_logits", kind="ctc", vocab_size=65_535))


@pytest.mark.parametrize(
    ("settings", "spelt", "codec"),
    [
        ({}, {"top_k": 8}, {"name": "log8"}),
        ({"top_k": 3}, {"top_k": 3}, {"name": "log8"}),
        ({"top_k": "all"}, {"top_k": "all"}, {"name": "fp16"}),
        ({"min_p": 1e-4}, {"top_k": "all", "min_p": 1e-4}, {"name": "root"}),
        ({"top_p": 0.9, "top_k": 4}, {"top_k": 4, "top_p": 0.9}, {"name": "root"}),
        ({"samples": 50}, {"samples": 50}, {"name": "count", "samples": 50}),
    ],
)
def test_settings_and_the_codec_that_suits_them(
    settings: dict[str, Any], spelt: dict[str, Any], codec: dict[str, Any]
) -> None:
    target = EncoderLogitsTarget(**settings)
    assert target.settings() == spelt
    assert target.default_codec() == codec
    assert EncoderLogitsTarget(**spelt) == target


@pytest.mark.parametrize("codec", ["root", "log8", "fp16"])
def test_rows_of_different_lengths_in_every_codec(
    normal: Callable[..., Tensor], codec: str
) -> None:
    logits, packer = normal(6, 40), make_codec("posterior", {"name": codec})
    reduced = EncoderLogitsTarget(min_p=0.01).reduce(_output("frame_logits_TV", logits), packer)
    decoded = packer.decode(reduced.columns)
    assert isinstance(decoded, PosteriorRecord)
    logp = logits.double().log_softmax(-1).numpy()
    counts = (decoded.ids_NK >= 0).sum(-1)
    assert counts.tolist() == (logp >= np.log(0.01)).sum(-1).tolist()
    assert decoded.ids_NK.shape[1] == counts.max() < 40
    full = []
    for row in range(6):
        ids = decoded.ids_NK[row, : counts[row]]
        q = np.full(40, decoded.logp_NC[row, -1] - np.log(40 - counts[row]))
        q[ids] = decoded.logp_NC[row, : counts[row]]
        full.append((np.exp(logp[row]) * (logp[row] - q)).sum())
    assert reduced.fidelity["kl_full_mean"] == pytest.approx(np.mean(full), abs=1e-6)
    assert reduced.fidelity["kl_full_max"] == pytest.approx(np.max(full), abs=1e-6)


def test_a_model_of_the_rest_is_what_the_loss_is_measured_with(
    normal: Callable[..., Tensor],
) -> None:
    logits, output = normal(6, 12), _output("frame_logits_TV", normal(6, 12))
    weights = logits.double().softmax(-1).mean(0, keepdim=True).numpy()
    tail = TailModel.from_weights(weights, np.zeros(12, int))
    codec = make_codec("posterior", {"name": "root", "bits": 10, "tail": tail.to_dict()})
    even = make_codec("posterior", {"name": "root", "bits": 10})
    target = EncoderLogitsTarget(top_k=2)
    modelled, spread = (target.reduce(output, c).fidelity for c in (codec, even))
    assert modelled["kl_mean"] == spread["kl_mean"]
    assert modelled["kl_full_mean"] != spread["kl_full_mean"]
    decoded = codec.decode(target.reduce(output, codec).columns)
    assert isinstance(decoded, PosteriorRecord)
    logp = logits.double().log_softmax(-1).numpy()
    full = []
    for row in range(6):
        weight = np.exp(tail.log_weights[0].astype(np.float64))
        weight[decoded.ids_NK[row]] = 0
        q = np.exp(decoded.logp_NC[row, -1]) * weight / weight.sum()
        q[decoded.ids_NK[row]] = np.exp(decoded.logp_NC[row, :-1])
        full.append((np.exp(logp[row]) * (logp[row] - np.log(q))).sum())
    assert modelled["kl_full_mean"] == pytest.approx(np.mean(full), abs=1e-5)


@pytest.mark.parametrize(("made", "field"), TARGETS)
@pytest.mark.parametrize("codec", ["fp16", "log8"])
def test_all_classes_need_no_ids(
    normal: Callable[..., Tensor], made: Any, field: str, codec: str
) -> None:
    logits, packer = normal(6, 12), make_codec("posterior", {"name": codec})
    reduced = made(top_k="all").reduce(_output(field, logits), packer)
    assert reduced.columns.keys() == {"logp"}
    decoded = packer.decode(reduced.columns)
    assert isinstance(decoded, PosteriorRecord)
    assert decoded.ids_NK.tolist() == [list(range(12))] * 6
    expected = logits.log_softmax(-1).numpy()
    bound = packer.error_bound(
        PosteriorRecord(np.pad(expected, ((0, 0), (0, 1)), constant_values=-np.inf), decoded.ids_NK)
    )
    assert (np.abs(decoded.logp_NC[:, :-1] - expected) <= bound[:, :-1] + 1e-6).all()
    assert reduced.fidelity["kl_full_mean"] == reduced.fidelity["kl_mean"]


def test_all_classes_in_rows_of_any_length_is_refused(normal: Callable[..., Tensor]) -> None:
    with pytest.raises(TeacherOutputError, match="packed by fp16 or log8"):
        EncoderLogitsTarget(top_k="all").reduce(
            _output("frame_logits_TV", normal(6, 12)), make_codec("posterior", {"name": "root"})
        )


def test_draws_are_those_of_the_utterance(normal: Callable[..., Tensor]) -> None:
    target = EncoderLogitsTarget(samples=20)
    codec = make_codec("posterior", target.default_codec())
    output = _output("frame_logits_TV", 0.3 * normal(6, 12))

    def packed(utterance: str) -> bytes:
        return (
            target.reduce(replace(output, utterance=utterance), codec).columns["packed"].tobytes()
        )

    assert packed("a") == packed("a") != packed("b")
    reduced = target.reduce(output, codec)
    decoded = codec.decode(reduced.columns)
    assert isinstance(decoded, PosteriorRecord)
    counts = np.exp(decoded.logp_NC) * 20
    assert np.abs(counts - np.rint(counts)).max() < 1e-4
    assert reduced.fidelity.keys() == {"kl_sampled_mean", "kl_sampled_max"}
    assert 0 < reduced.fidelity["kl_sampled_mean"] < 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples is 0; expected an integer from 1 to 4,096"),
        ({"samples": 50.0}, "samples is 50.0"),
        ({"samples": 50, "top_k": 8}, "leave top_k, top_p and min_p out"),
        ({"samples": 50, "min_p": 0.1}, "leave top_k, top_p and min_p out"),
        ({"top_p": 2}, "top_p is 2; expected a probability"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderLogitsTarget(**settings)


@pytest.mark.parametrize("top_k", [0, -3, 2.0, False])
def test_top_k_out_of_range(top_k: Any) -> None:
    with pytest.raises(ConfigError, match="expected an integer of at least 1"):
        DecoderLogitsTarget(top_k=top_k)
