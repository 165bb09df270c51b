"""Log-mel features: those of the extractor whose settings they have, wherever they are made."""

from __future__ import annotations

import pytest
import torch
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.network.log_mel import log_mel

SETTINGS = [
    {"feature_size": 80},
    {"feature_size": 128},
    {"feature_size": 20, "n_fft": 256, "win_length": 200, "hop_length": 80},
    {"feature_size": 40, "preemphasis": None},
]


def batch_of(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, with other noise beyond each utterance's own samples."""
    generator = torch.Generator().manual_seed(len(lengths))
    audio_BN = torch.randn(len(lengths), max(lengths), generator=generator) * 0.1
    return audio_BN, torch.tensor(lengths)


def extractors(settings: dict[str, object], audio_BN: torch.Tensor, lengths_B: torch.Tensor):
    extractor = ParakeetFeatureExtractor(**settings)
    samples = [row[:n].numpy() for row, n in zip(audio_BN, lengths_B.tolist(), strict=True)]
    out = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return extractor, out["input_features"], out["attention_mask"]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("lengths", [(16_000,), (8_000, 16_123, 320), (4_000, 4_159, 4_160)])
def test_equals_the_extractor(settings: dict[str, object], lengths: tuple[int, ...]) -> None:
    audio_BN, lengths_B = batch_of(*lengths)
    extractor, expected_BFM, expected_BF = extractors(settings, audio_BN, lengths_B)
    features_BFM, mask_BF = log_mel(extractor, audio_BN, lengths_B)
    assert features_BFM.dtype == torch.float32
    assert torch.equal(mask_BF, expected_BF.bool())
    assert torch.allclose(features_BFM, expected_BFM, atol=2e-4, rtol=1e-4)


def test_silence_is_as_the_extractor_has_it() -> None:
    audio_BN, lengths_B = torch.zeros(1, 8_000), torch.tensor([8_000])
    extractor, expected_BFM, _ = extractors({}, audio_BN, lengths_B)
    assert torch.allclose(log_mel(extractor, audio_BN, lengths_B)[0], expected_BFM, atol=1e-4)


def test_samples_beyond_an_utterance_do_not_matter() -> None:
    audio_BN, lengths_B = batch_of(5_000, 9_000)
    other_BN = audio_BN.clone()
    other_BN[0, 5_000:] = torch.nan
    extractor = ParakeetFeatureExtractor()
    features_BFM, _ = log_mel(extractor, audio_BN, lengths_B)
    assert torch.equal(features_BFM, log_mel(extractor, other_BN, lengths_B)[0])
    assert not features_BFM[0, 5_000 // 160 :].any()


def test_an_utterance_is_the_same_alone_and_beside_a_longer_one() -> None:
    audio_BN, lengths_B = batch_of(5_000, 9_000)
    extractor = ParakeetFeatureExtractor()
    together_BFM, _ = log_mel(extractor, audio_BN, lengths_B)
    alone_BFM, _ = log_mel(extractor, audio_BN[:1, :5_000], lengths_B[:1])
    assert torch.allclose(together_BFM[0, : 5_000 // 160], alone_BFM[0, : 5_000 // 160], atol=1e-4)


@pytest.mark.parametrize("samples", [1, 159, 160, 320])
def test_the_shortest_audio_has_finite_features(samples: int) -> None:
    audio_BN, lengths_B = batch_of(samples)
    features_BFM, mask_BF = log_mel(ParakeetFeatureExtractor(), audio_BN, lengths_B)
    assert features_BFM.isfinite().all()
    assert int(mask_BF.sum()) == samples // 160


def test_all_of_it_happens_where_the_samples_are() -> None:
    """Shapes alone, on a device that refuses operands that were left on the CPU."""
    audio_BN = torch.empty(2, 8_000, device="meta")
    features_BFM, mask_BF = log_mel(ParakeetFeatureExtractor(), audio_BN, torch.tensor([8_000, 9]))
    assert features_BFM.device.type == mask_BF.device.type == "meta"
    assert features_BFM.shape == (2, 51, 80)
