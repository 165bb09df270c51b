"""What a CTC student learns from: terms of the loss, their settings, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from kdcache.batch import Batch, PosteriorBatch, VectorBatch
from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.errors import ConfigError, InputError, TokenizerError
from kdcache.loss import (
    estimate_ngram,
    lf_mmi_loss,
    load_denominator,
    posterior_kl,
    save_ngram,
    sequence_kl,
    vector_mse,
)
from kdcache.student import StudentOutput, load_student
from kdcache.train.alignment import Alignment
from kdcache.train.launch import prepare, train_here
from kdcache.train.metrics import read_metrics
from kdcache.train.objective import NonFiniteLossError, loss_terms
from kdcache.train.settings import LossSettings, TrainSettings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LABELS, V = 4, 5
BLANK = LABELS
FRAMES = torch.tensor([7, 5])
TINY = {
    "kind": "ctc",
    "hidden": 16,
    "layers": 2,
    "heads": 2,
    "conv_channels": 8,
    "conv_kernels": [40, 16],
    "conv_strides": [20, 16],
    "position_kernel": 4,
    "dropout": 0,
}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    ngram = estimate_ngram([(0, 1, 2), (3, 3), (1, 0)], LABELS, 2)
    return save_ngram(ngram, tmp_path / "denominator.npz")


def make() -> tuple[StudentOutput, Batch]:
    output = StudentOutput(
        encoder_BTJ=None,
        decoder_BUJ=None,
        joint=None,
        frames_B=FRAMES,
        hidden_BTD=draw(2, 7, 6, seed=0),
        ctc_logits_BTV=draw(2, 7, V, seed=1),
        layer_vectors={"h2": draw(2, 7, 3, seed=2), "h4": draw(2, 7, 4, seed=3)},
    )
    teacher = draw(2, 7, V, seed=4)
    values, ids = teacher.log_softmax(-1).topk(V - 1, dim=-1)
    rest = (1 - values.exp().sum(-1, keepdim=True)).log()
    targets = {
        "encoder_logits": PosteriorBatch(torch.cat([values, rest], -1), ids, FRAMES),
        "frame_logits": VectorBatch(teacher, FRAMES),
        "h2": VectorBatch(draw(2, 7, 3, seed=5), FRAMES),
        "h4": VectorBatch(draw(2, 7, 4, seed=6), FRAMES),
    }
    labels = torch.tensor([[0, 1, 2], [3, 3, 0]])
    lengths = torch.tensor([3, 2])
    return output, Batch(("a", "b"), ("", ""), labels, lengths, None, None, targets)


def test_every_term_is_its_loss(graph_file: Path) -> None:
    output, batch = make()
    names = ("encoder_kl", "logit_mse", "lf_mmi", "sequence_kd", "hidden_mse")
    weights = LossSettings(rnnt=0, denominator=graph_file, **dict.fromkeys(names, 1.0))
    terms = loss_terms(output, batch, BLANK, weights)
    assert set(terms) == set(names)
    graph, logits = load_denominator(graph_file), output.ctc_logits_BTV
    teacher = batch.targets["frame_logits"].values_BTD
    labels = (batch.labels_BU, batch.label_lengths_B)
    expected = {
        "encoder_kl": posterior_kl(logits, batch.targets["encoder_logits"], reduction="none"),
        "logit_mse": vector_mse(logits, batch.targets["frame_logits"], "none"),
        "lf_mmi": lf_mmi_loss(logits, FRAMES, *labels, graph, "none"),
        "sequence_kd": sequence_kl(logits, teacher.log_softmax(-1), FRAMES, graph).float(),
        "hidden_mse": vector_mse(output.layer_vectors["h2"], batch.targets["h2"], "none")
        + vector_mse(output.layer_vectors["h4"], batch.targets["h4"], "none"),
    }
    for name in names:
        torch.testing.assert_close(terms[name], expected[name], rtol=1e-4, atol=1e-5)


def test_terms_that_compare_frames_take_their_time_shifts(graph_file: Path) -> None:
    """A student that is the teacher two frames late has nothing to learn at a shift of two."""
    output, batch = make()
    teacher = batch.targets["frame_logits"].values_BTD
    h2, h4 = batch.targets["h2"].values_BTD, batch.targets["h4"].values_BTD

    def late(values: Tensor) -> Tensor:
        return torch.cat([values.new_zeros(2, 2, values.shape[2]), values[:, :5]], dim=1)

    vectors = {"h2": late(h2), "h4": late(h4)}
    output = replace(output, ctc_logits_BTV=late(teacher), layer_vectors=vectors)
    names = ("encoder_kl", "logit_mse", "sequence_kd", "hidden_mse")
    weights = LossSettings(rnnt=0, denominator=graph_file, **dict.fromkeys(names, 1.0))
    shifted = Alignment(shifts=dict.fromkeys(names, range(4)))
    terms = loss_terms(output, batch, BLANK, weights, shifted)
    unshifted = loss_terms(output, batch, BLANK, weights)
    for name in names:
        torch.testing.assert_close(terms[name], torch.zeros(2), rtol=0, atol=1e-4)
        assert (unshifted[name] > 0.1).all()


@pytest.mark.parametrize("term", ["lf_mmi", "sequence_kd"])
def test_a_loss_that_is_no_number_stops_by_name(graph_file: Path, term: str) -> None:
    output, batch = make()
    assert output.ctc_logits_BTV is not None
    output.ctc_logits_BTV[1, 2, 0] = torch.nan
    weights = LossSettings(rnnt=0, denominator=graph_file, **{term: 1.0})
    with pytest.raises(NonFiniteLossError, match=f"{term} loss is not finite for 'b';"):
        loss_terms(output, batch, BLANK, weights)


def settings_of(loss: dict[str, object], **student: object) -> TrainSettings:
    data = {"cache": "c"}
    return TrainSettings(out="o", data=data, loss={"rnnt": 0, **loss}, student={**TINY, **student})


def test_terms_ask_for_their_targets() -> None:
    layers = {"h2": {"layer": 1, "width": 3}, "h4": {"layer": 2, "width": 4}}
    loss = {"hidden_mse": 1, "sequence_kd": 1, "logit_mse": 1, "denominator": "d.npz"}
    found = settings_of(loss, hidden_layers=layers).targets()
    assert found == ("encoder_logits", "frame_logits", "h2", "h4")


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ({"rnnt": 1}, "loss.rnnt: 0, since a student of kind ctc"),
        ({"hidden_mse": 1}, "student.hidden_layers"),
        ({"lf_mmi": 1}, "loss.denominator for loss.lf_mmi"),
        ({"sequence_kd": 1}, "loss.denominator for loss.sequence_kd"),
    ],
)
def test_what_a_term_needs_is_said(loss: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings_of(loss)


def test_the_denominator_is_looked_at_before_the_run(tones: Path, tmp_path: Path) -> None:
    data = {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"}
    file = tmp_path / "den.npz"
    loss = {"rnnt": 0, "lf_mmi": 1, "denominator": file}
    settings = TrainSettings(out=tmp_path / "run", data=data, loss=loss, student=TINY)
    with pytest.raises(InputError, match="is no denominator"):
        prepare(settings)
    save_ngram(estimate_ngram([(0, 1)], LABELS, 2, "another"), file)
    with pytest.raises(TokenizerError, match="make the denominator with the data's tokenizer"):
        prepare(settings)


def test_a_student_learns_and_a_streaming_one_starts_from_it(tones: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tones / "tokenizer")
    texts = [tokenizer.encode(u.text) for u in read_manifest(tones / "train.jsonl")]
    ngram = estimate_ngram(texts, tokenizer.vocab_size, 2, tokenizer.fingerprint)
    file = save_ngram(ngram, tmp_path / "den.npz")
    common = {
        "data": {"corpus": tones / "train.jsonl", "tokenizer": tones / "tokenizer"},
        "loss": {"rnnt": 0, "lf_mmi": 1, "denominator": file},
        "optim": {"steps": 16, "warmup": 2, "learning_rate": 3e-3},
        "batch_seconds": 12,
        "augment": False,
    }
    first = TrainSettings(out=tmp_path / "whole", student=TINY, **common)
    prepare(first)
    train_here(first, lambda _: None)
    losses = [line["lf_mmi"] for line in read_metrics(first.out)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    start = first.out / "student"
    streams = {**TINY, "streaming": {"chunk": 4, "history": 8}}
    second = TrainSettings(out=tmp_path / "streams", init=start, student=streams, **common)
    prepare(second)
    train_here(second, lambda _: None)
    assert read_metrics(second.out)[0]["lf_mmi"] < losses[0]
    streaming = load_student(second.out / "student").streaming
    assert (streaming.chunk, streaming.history) == (4, 8)
    other = TrainSettings(
        out=tmp_path / "other", init=start, data=common["data"], optim={"steps": 1}
    )
    prepare(other)
    with pytest.raises(ConfigError, match="of kind ctc, and student.kind is transducer"):
        train_here(other, lambda _: None)
