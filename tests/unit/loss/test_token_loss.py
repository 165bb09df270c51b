"""Cross-entropy of an attention decoder, against its formula written out."""

from __future__ import annotations

import pytest
import torch
from loss_data import gradient
from torch import Tensor

from kdcache.errors import InputError
from kdcache.loss import token_cross_entropy

LENGTHS, END = [3, 0, 1], 4
LABELS = torch.tensor([[0, 3, 1], [2, 2, 2], [1, 4, 0]])


def random_logits(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(3, 4, 5, generator=generator).double()


def loss_of(logits: Tensor, smoothing: float = 0.0, labels: Tensor = LABELS) -> Tensor:
    lengths = torch.tensor(LENGTHS)
    return token_cross_entropy(logits, labels, lengths, END, smoothing, reduction="none")


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_value_is_the_formula(smoothing: float) -> None:
    logits = random_logits()
    logp = logits.log_softmax(-1)
    expected = []
    for row, length in enumerate(LENGTHS):
        total = 0.0
        for u, token in enumerate([*LABELS[row, :length].tolist(), END]):
            for v in range(5):
                share = (1 - smoothing) * (v == token) + smoothing / 5
                total -= share * float(logp[row, u, v])
        expected.append(total)
    assert loss_of(logits, smoothing).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradcheck(smoothing: float) -> None:
    logits = random_logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss_of(z, smoothing), (logits,))


@pytest.mark.parametrize("filler", [3.0, -torch.inf, float("nan")])
def test_padding_has_no_say_and_no_gradient(filler: float) -> None:
    clean = random_logits().requires_grad_()
    padding = torch.arange(6) > torch.tensor(LENGTHS)[:, None]
    wider = torch.nn.functional.pad(clean.detach(), (0, 0, 0, 2))
    dirty = wider.masked_fill(padding[..., None], filler).requires_grad_()
    labels = LABELS.masked_fill(padding[:, 1:4], -1)
    loss = loss_of(dirty, 0.1, labels)
    assert torch.equal(loss, loss_of(clean, 0.1))
    grad = gradient(loss, dirty)
    assert torch.equal(grad[:, :4], gradient(loss_of(clean, 0.1), clean))
    assert (grad[padding] == 0).all()


def test_nan_reaches_its_own_utterance_only() -> None:
    logits = random_logits()
    logits[2, 1, 0] = float("nan")
    assert loss_of(logits).isnan().tolist() == [False, False, True]


def test_half_precision_is_summed_in_float32() -> None:
    logits = random_logits()
    found = loss_of(logits.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss_of(logits.bfloat16().float()))


def test_bad_input_is_one_sentence() -> None:
    logits, lengths = random_logits(), torch.tensor(LENGTHS)
    with pytest.raises(InputError, match=r"expected \(batch, labels \+ 1, vocabulary\)"):
        token_cross_entropy(logits[0], LABELS, lengths, END)
    with pytest.raises(InputError, match=r"label_lengths_B\[0\] is 3; expected 0 to 2"):
        token_cross_entropy(logits[:, :3], LABELS, lengths, END)
    with pytest.raises(InputError, match="Class id 3 is outside the vocabulary of 3"):
        token_cross_entropy(logits[..., :3], LABELS, lengths, 2)
