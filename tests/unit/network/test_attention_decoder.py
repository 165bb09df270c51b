"""The attention decoder: what a row sees, step by step against all at once, padding."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdcache.network.attention_decoder import AttentionDecoder
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.score.attention import greedy_attention

CLASSES, MEMORY = 6, 10
END = CLASSES - 1
SIZES = DecoderSettings(width=8, layers=2, heads=2, dropout=0)


def decoder_of(seed: int = 0, sizes: DecoderSettings = SIZES) -> AttentionDecoder:
    torch.manual_seed(seed)
    return AttentionDecoder(CLASSES, MEMORY, sizes).double().eval()


def frames_of(lengths: list[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(len(lengths), max(lengths), MEMORY, generator=generator).double()
    return hidden, torch.tensor(lengths)


def test_a_row_for_every_label_and_the_end() -> None:
    hidden, frames = frames_of([4, 1])
    labels = torch.tensor([[0, 1, 2], [3, 0, 0]])
    assert decoder_of()(labels, hidden, frames).shape == (2, 4, CLASSES)


def test_no_label_and_one_frame() -> None:
    hidden, frames = frames_of([1])
    logits = decoder_of()(torch.zeros(1, 0, dtype=torch.long), hidden, frames)
    assert logits.shape == (1, 1, CLASSES)
    assert logits.isfinite().all()


def test_a_row_sees_the_labels_before_it_and_no_other() -> None:
    decoder, (hidden, frames) = decoder_of(), frames_of([5])
    labels = torch.tensor([[0, 1, 2, 3]])
    plain = decoder(labels, hidden, frames)
    for place in range(4):
        other = labels.clone()
        other[0, place] = 4
        changed = (decoder(other, hidden, frames) != plain).any(-1)[0]
        assert changed.tolist() == [u > place for u in range(5)]


def test_every_frame_has_a_say_and_padding_has_none() -> None:
    decoder, (hidden, frames) = decoder_of(), frames_of([5, 3])
    labels = torch.tensor([[0, 1], [2, 3]])
    plain = decoder(labels, hidden, frames)
    for frame in range(5):
        other = hidden.clone()
        other[:, frame] = float("nan") if frame >= 3 else 7.0
        other[0] = hidden[0]
        assert torch.equal(decoder(labels, other, frames)[1], plain[1]) == (frame >= 3)
        assert torch.equal(decoder(labels, other, frames)[0], plain[0])


def test_padding_has_no_gradient() -> None:
    decoder, (hidden, frames) = decoder_of(), frames_of([5, 3])
    hidden.requires_grad_()
    decoder(torch.tensor([[0, 1], [2, 3]]), hidden, frames).sum().backward()
    assert hidden.grad is not None
    assert (hidden.grad[1, 3:] == 0).all()
    assert (hidden.grad[1, :3] != 0).any()


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    labels=st.integers(0, 5),
    seed=st.integers(0, 9),
)
@settings(max_examples=30)
def test_step_by_step_is_all_at_once_whatever_the_batch(
    lengths: list[int], labels: int, seed: int
) -> None:
    decoder, (hidden, frames) = decoder_of(seed), frames_of(lengths, seed)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, END, (len(lengths), labels), generator=generator)
    whole = decoder(ids, hidden, frames)
    state = decoder.begin(hidden, frames)
    fed = torch.cat([torch.full((len(lengths), 1), END), ids], dim=1)
    for place in range(labels + 1):
        logits, state = decoder.step(fed[:, place], state)
        torch.testing.assert_close(logits, whole[:, place])
    for row, length in enumerate(lengths):
        alone = decoder(ids[row : row + 1], hidden[row : row + 1, :length], frames[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row])


def test_rows_of_a_state_can_be_chosen_and_repeated() -> None:
    decoder, (hidden, frames) = decoder_of(), frames_of([5, 3])
    _, state = decoder.step(torch.tensor([END, END]), decoder.begin(hidden, frames))
    found, _ = decoder.step(torch.tensor([2, 0, 1]), state.rows(torch.tensor([1, 0, 1])))
    expected = [decoder(torch.tensor([[i]] * 2), hidden, frames)[:, 1] for i in (2, 0, 1)]
    for row, (source, logits) in enumerate(zip((1, 0, 1), expected, strict=True)):
        torch.testing.assert_close(found[row], logits[source])


@pytest.mark.parametrize("seed", range(5))
def test_greedy_takes_the_best_class_of_what_it_wrote(seed: int) -> None:
    decoder, (hidden, frames) = decoder_of(seed), frames_of([6, 2, 4], seed)
    for row, labels in enumerate(greedy_attention(decoder, hidden, frames)):
        ids = torch.tensor([labels], dtype=torch.long)
        logits = decoder(ids, hidden[row : row + 1], frames[row : row + 1])
        best = logits.argmax(-1)[0].tolist()
        assert best[: len(labels)] == labels
        assert best[len(labels)] == END or len(labels) == int(frames[row])


def test_greedy_is_bounded() -> None:
    decoder, (hidden, frames) = decoder_of(), frames_of([6, 2])
    with torch.no_grad():
        decoder.out.bias[END] = -1e9
    found = greedy_attention(decoder, hidden, frames)
    assert [len(labels) for labels in found] == [6, 2]
    short = greedy_attention(decoder, hidden, frames, longest=1)
    assert short == [labels[:1] for labels in found]
    with torch.no_grad():
        decoder.out.bias[END] = 1e9
    assert greedy_attention(decoder, hidden, frames) == [[], []]


def test_the_probabilities_of_all_endings_add_up() -> None:
    """Of all sequences of up to two labels, and of those that go on, by brute force."""
    decoder, (hidden, frames) = decoder_of(), frames_of([3])
    total = 0.0
    decoder.requires_grad_(False)
    for length in range(3):
        for ids in product(range(END), repeat=length):
            labels = torch.tensor([ids], dtype=torch.long).reshape(1, -1)
            logp = decoder(labels, hidden, frames)[0].log_softmax(-1)
            path = sum(float(logp[u, label]) for u, label in enumerate(ids))
            last = logp[length, END] if length < 2 else logp[length].logsumexp(-1)
            total += float((path + last).exp())
    assert total == pytest.approx(1.0)


def test_dropout_is_of_training_alone() -> None:
    decoder = decoder_of(sizes=SIZES.model_copy(update={"dropout": 0.5}))
    (hidden, frames), labels = frames_of([3]), torch.tensor([[1]])
    first, second = (decoder(labels, hidden, frames) for _ in range(2))
    assert torch.equal(first, second)
    decoder.train()
    first, second = (decoder(labels, hidden, frames) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("sizes", [{"width": 10, "heads": 4}, {"width": 9, "heads": 3}])
def test_sizes_that_do_not_fit(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"should have width .* even and a multiple of heads"):
        DecoderSettings(**sizes)
