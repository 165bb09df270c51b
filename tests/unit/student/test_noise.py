"""Noise on the student's side: as loud as asked, the same for everybody, on the same frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kdcache.batch import Batch
from kdcache.student.noise import NoiseAugment, add_noise

IDS = ("a", "b", "c", "d")
LENGTHS = [16_000, 8_000, 12_345, 1]


def batch_of(ids: tuple[str, ...] = IDS) -> Batch:
    audio = torch.zeros(len(ids), max(LENGTHS))
    for row, name in enumerate(ids):
        length = LENGTHS[IDS.index(name)]
        generator = torch.Generator().manual_seed(IDS.index(name))
        audio[row, :length] = 0.1 * torch.randn(length, generator=generator)
    lengths = torch.tensor([LENGTHS[IDS.index(name)] for name in ids])
    nothing = torch.zeros(len(ids), 0, dtype=torch.int64)
    return Batch(ids, ("",) * len(ids), nothing, lengths * 0, audio, lengths, {})


def audio_of(batch: Batch) -> torch.Tensor:
    assert batch.audio_BN is not None
    return batch.audio_BN


def decibels(clean: torch.Tensor, noisy: torch.Tensor) -> float:
    return float(10 * torch.log10(clean.square().mean() / (noisy - clean).square().mean()))


@pytest.mark.parametrize("snr", [0.0, 10.0, 25.0])
def test_the_noise_is_as_loud_as_asked(snr: float) -> None:
    batch = batch_of()
    noisy = add_noise(batch, NoiseAugment((snr, snr), share=1.0))
    for row, length in enumerate(LENGTHS[:3]):
        found = decibels(audio_of(batch)[row, :length], audio_of(noisy)[row, :length])
        assert found == pytest.approx(snr, abs=0.01)


def test_ratios_lie_between_the_two() -> None:
    found = []
    for step in range(40):
        noisy = add_noise(batch_of(), NoiseAugment((3.0, 9.0), share=1.0, step=step))
        found.append(decibels(audio_of(batch_of())[1, :8000], audio_of(noisy)[1, :8000]))
    assert 2.99 <= min(found) < 4.5
    assert 7.5 < max(found) <= 9.01


def test_an_utterance_sounds_alike_in_whichever_batch() -> None:
    noise = NoiseAugment(share=1.0, seed=3, step=7)
    whole, alone = add_noise(batch_of(), noise), add_noise(batch_of(("c", "a")), noise)
    assert torch.equal(audio_of(whole)[2], audio_of(alone)[0])
    assert torch.equal(audio_of(whole)[0], audio_of(alone)[1])


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}])
def test_another_seed_or_step_sounds_otherwise(change: dict[str, int]) -> None:
    noise = NoiseAugment(share=1.0)
    first, second = (add_noise(batch_of(), n) for n in (noise, replace(noise, **change)))
    assert not torch.equal(audio_of(first), audio_of(second))


def test_padding_length_and_the_batch_itself_stay() -> None:
    batch = batch_of()
    before = audio_of(batch).clone()
    noisy = add_noise(batch, NoiseAugment(share=1.0))
    assert torch.equal(audio_of(batch), before)
    assert audio_of(noisy).shape == before.shape
    assert audio_of(noisy).dtype == torch.float32
    for row, length in enumerate(LENGTHS):
        assert (audio_of(noisy)[row, length:] == 0).all()
    assert torch.equal(audio_of(noisy)[3], before[3])  # one sample has no spectrum


def test_some_are_spared() -> None:
    noise = [NoiseAugment(share=0.5, step=step) for step in range(60)]
    spared = sum(torch.equal(audio_of(add_noise(batch_of(("b",)), n)), audio_of(batch_of(("b",))))
                 for n in noise)  # fmt: skip
    assert 15 <= spared <= 45
    quiet = add_noise(batch_of(), NoiseAugment(share=0.0))
    assert torch.equal(audio_of(quiet), audio_of(batch_of()))


def test_silence_stays_silent_and_no_audio_is_no_error() -> None:
    batch = replace(batch_of(), audio_BN=torch.zeros(4, 16_000))
    assert (audio_of(add_noise(batch, NoiseAugment(share=1.0))) == 0).all()
    deaf = replace(batch, audio_BN=None, audio_lengths_B=None)
    assert add_noise(deaf, NoiseAugment()) is deaf


def test_both_kinds_of_noise_are_heard() -> None:
    """Pink noise has most of its power low, white noise has it everywhere."""
    low = []
    for step in range(12):
        noisy = add_noise(batch_of(("a",)), NoiseAugment((0.0, 0.0), share=1.0, step=step))
        power = np.abs(np.fft.rfft((audio_of(noisy) - audio_of(batch_of(("a",))))[0].numpy())) ** 2
        low.append(power[:2000].sum() / power.sum())
    assert min(low) < 0.35
    assert max(low) > 0.6
