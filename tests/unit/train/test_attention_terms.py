"""The terms of an attention decoder: of the transcript, and of the teacher's decoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kdcache.batch import Batch, PosteriorBatch
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.loss import posterior_kl, token_cross_entropy
from kdcache.student import StudentOutput
from kdcache.train.objective import NonFiniteLossError, loss_terms, weighted_sum
from kdcache.train.settings import LossSettings

BLANK, LENGTHS = 4, [3, 0, 1]
BOTH = LossSettings(rnnt=0, attention=0.4, decoder_kl=0.6)


def make(end: int = BLANK) -> tuple[StudentOutput, Batch]:
    """A student's logits, and a teacher's all classes, whose end is ``end``."""
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (2 * torch.randn(3, 4, 5, generator=generator).double() for _ in range(2))
    labels = torch.tensor([[0, 3, 1], [2, 2, 2], [1, 0, 0]])
    output = StudentOutput(
        encoder_BTJ=None,
        decoder_BUJ=None,
        joint=None,
        frames_B=torch.tensor([6, 2, 3]),
        hidden_BTD=torch.zeros(3, 6, 2),
        ctc_logits_BTV=None,
        attention_logits_BUV=logits.requires_grad_(),
    )
    ids = torch.arange(5).where(torch.arange(5) != BLANK, end).expand(3, 4, 5)
    nothing = torch.full((3, 4, 1), -torch.inf)
    lengths = torch.tensor(LENGTHS)
    target = PosteriorBatch(torch.cat([teacher.log_softmax(-1), nothing], -1), ids, lengths + 1)
    names, texts = ("a", "b", "c"), ("", "", "")
    batch = Batch(names, texts, labels, lengths, None, None, {"decoder_logits": target})
    return output, batch


def test_both_terms_are_their_losses() -> None:
    output, batch = make()
    terms = loss_terms(output, batch, BLANK, BOTH)
    assert terms.keys() == {"attention", "decoder_kl"}
    logits, target = output.attention_logits_BUV, batch.targets["decoder_logits"]
    assert logits is not None
    assert isinstance(target, PosteriorBatch)
    labels = (batch.labels_BU, batch.label_lengths_B, BLANK)
    expected = token_cross_entropy(logits, *labels, reduction="none")
    torch.testing.assert_close(terms["attention"], expected)
    torch.testing.assert_close(terms["decoder_kl"], posterior_kl(logits, target, reduction="none"))
    whole = weighted_sum(terms, BOTH)
    torch.testing.assert_close(whole, (0.4 * terms["attention"] + 0.6 * terms["decoder_kl"]).sum())


def test_gradcheck_of_their_sum() -> None:
    output, batch = make()

    def function(logits: torch.Tensor) -> torch.Tensor:
        own = replace(output, attention_logits_BUV=logits)
        return weighted_sum(loss_terms(own, batch, BLANK, BOTH), BOTH)

    assert torch.autograd.gradcheck(function, (output.attention_logits_BUV,))


def test_a_teacher_that_ends_by_another_class() -> None:
    output, batch = make()
    expected = loss_terms(output, batch, BLANK, BOTH)["decoder_kl"]
    _, other = make(end=9)
    weights = BOTH.model_copy(update={"decoder_end": 9})
    assert torch.equal(loss_terms(output, other, BLANK, weights)["decoder_kl"], expected)


def test_smoothing_is_an_option_and_no_term() -> None:
    output, batch = make()
    weights = LossSettings(rnnt=0, attention=1.0, label_smoothing=0.2)
    assert weights.weights() == {"attention": 1.0}
    terms = loss_terms(output, batch, BLANK, weights)
    assert terms.keys() == {"attention"}
    sharp = loss_terms(output, batch, BLANK, LossSettings(rnnt=0, attention=1.0))
    assert (terms["attention"] != sharp["attention"]).all()
    with pytest.raises(ValueError, match="label_smoothing"):
        LossSettings(ramps={"label_smoothing": {"steps": 5}})


def test_a_student_without_a_decoder() -> None:
    output, batch = make()
    with pytest.raises(ConfigError, match="has no attention decoder, which the loss needs"):
        loss_terms(replace(output, attention_logits_BUV=None), batch, BLANK, BOTH)


def test_labels_of_another_tokenizer() -> None:
    output, batch = make()
    target = batch.targets["decoder_logits"]
    assert isinstance(target, PosteriorBatch)
    shorter = replace(target, lengths_B=torch.tensor([4, 1, 1]))
    other = replace(batch, targets={"decoder_logits": shorter})
    with pytest.raises(SpecMismatchError, match="'c': the teacher has 0 labels and the student 1"):
        loss_terms(output, other, BLANK, BOTH)


@pytest.mark.parametrize("name", ["attention", "decoder_kl"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told_by_name(name: str, value: float) -> None:
    output, batch = make()
    assert output.attention_logits_BUV is not None
    logits = output.attention_logits_BUV.detach().clone()
    logits[2, 1, 0] = value
    weights = LossSettings.model_validate({"rnnt": 0, name: 1.0})
    with pytest.raises(NonFiniteLossError, match=rf"The {name} loss is not finite for 'c'"):
        loss_terms(replace(output, attention_logits_BUV=logits), batch, BLANK, weights)
