"""Tiny teachers with random weights, saved as real ones are: for tests, without a download.

Each function writes a directory that ``kdcache.teacher.load_teacher`` loads: config, weights
in safetensors, feature extractor, tokenizer. The same arguments give the same weights. Weights
are drawn wider than in training, so that posteriors are not nearly uniform.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from transformers import (
    GenerationConfig,
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetForCTC,
    ParakeetForRNNT,
    ParakeetRNNTConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.corpus.tokenizer import train_sentencepiece
from kdcache.network.attention_decoder import AttentionDecoder
from kdcache.network.decoder_files import RESCORER, save_decoder
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.network.san_m import SanM
from kdcache.network.san_m_files import save_san_m
from kdcache.network.san_m_settings import SanMSettings
from kdcache.network.sharing import ShareSettings
from kdcache.quiet import quiet_transformers
from kdcache.teacher.directory import CTC_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kdcache.corpus.tokenizer import Tokenizer

SPREAD = 0.2
"""Standard deviation of the random weights."""


def save_small_transducer(
    directory: str | Path,
    tokens: Tokenizer | Sequence[str],
    *,
    hidden: int = 32,
    layers: int = 1,
    seed: int = 0,
    ctc_head: bool = False,
    rescorer: bool = False,
) -> Path:
    """A ``ParakeetForRNNT``, subsampling 4, blank last.

    Args:
        directory: where to; made if missing.
        tokens: a tokenizer, or transcripts to make a character tokenizer of.
        hidden: width of encoder, prediction network and joint network.
        layers: of the encoder.
        seed: of the weights.
        ctc_head: whether to add an auxiliary CTC head.
        rescorer: whether to add the attention decoder of a second pass.
    """
    tokenizer = _tokenizer(tokens)
    blank = tokenizer.vocab_size
    config = ParakeetRNNTConfig(
        vocab_size=blank + 1,
        blank_token_id=blank,
        pad_token_id=blank,
        decoder_hidden_size=hidden,
        num_decoder_layers=1,
        encoder_config=_parakeet_encoder(hidden, layers),
    )
    model = _random(lambda: ParakeetForRNNT(config), seed)
    model.generation_config.decoder_start_token_id = blank
    path = _save(directory, model, ParakeetFeatureExtractor(), tokenizer)
    if ctc_head:
        _save_ctc_head(path, blank + 1, hidden, seed)
    if rescorer:
        sizes = DecoderSettings(width=16, layers=1, heads=2, dropout=0)
        decoder = _random(lambda: AttentionDecoder(blank + 1, hidden, sizes), seed)
        save_decoder(decoder, path / RESCORER)
    return path


def save_small_san_m(
    directory: str | Path,
    tokens: Tokenizer | Sequence[str],
    *,
    hidden: int = 32,
    layers: int = 2,
    seed: int = 0,
    ctc_head: bool = False,
) -> Path:
    """A SAN-M encoder whose layers share their weights, with an attention decoder of one layer.

    Args:
        directory: where to; made if missing.
        tokens: a tokenizer, or transcripts to make a character tokenizer of.
        hidden: width of encoder and decoder.
        layers: of the encoder.
        seed: of the weights.
        ctc_head: whether to add an auxiliary CTC head.
    """
    tokenizer = _tokenizer(tokens)
    classes = tokenizer.vocab_size + 1
    sizes = SanMSettings(
        hidden=hidden,
        layers=layers,
        heads=2,
        feed_forward=2,
        memory_kernel=5,
        subsampling_channels=4,
        decoder=DecoderSettings(width=hidden, layers=1, heads=2),
        share=ShareSettings(encoder="all"),
    )
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    save_san_m(_random(lambda: SanM(classes, sizes), seed), path)
    ParakeetFeatureExtractor().save_pretrained(path)
    tokenizer.save(path)
    if ctc_head:
        _save_ctc_head(path, classes, hidden, seed)
    return path


def save_small_ctc(
    directory: str | Path,
    tokens: Tokenizer | Sequence[str],
    *,
    hidden: int = 32,
    layers: int = 1,
    seed: int = 0,
) -> Path:
    """A ``ParakeetForCTC``, subsampling 4, blank last; arguments as for the transducer."""
    tokenizer = _tokenizer(tokens)
    blank = tokenizer.vocab_size
    config = ParakeetCTCConfig(
        vocab_size=blank + 1, pad_token_id=blank, encoder_config=_parakeet_encoder(hidden, layers)
    )
    model = _random(lambda: ParakeetForCTC(config), seed)
    return _save(directory, model, ParakeetFeatureExtractor(), tokenizer)


def save_small_wav2vec2(
    directory: str | Path,
    tokens: Tokenizer | Sequence[str],
    *,
    hidden: int = 16,
    layers: int = 1,
    seed: int = 0,
    feat_extract_norm: str = "layer",
    model_class: Any = Wav2Vec2ForCTC,
    **settings: Any,
) -> Path:
    """A ``Wav2Vec2ForCTC`` or one of its kin, 20 ms a frame, blank last.

    Args:
        directory: where to; made if missing.
        tokens: a tokenizer, or transcripts to make a character tokenizer of.
        hidden: width of the encoder.
        layers: of the encoder.
        seed: of the weights.
        feat_extract_norm: ``layer`` (as in wav2vec2-large-lv60) or ``group`` (as in -base).
        model_class: another class with the same interface, such as ``HubertForCTC``.
        settings: more of its config.
    """
    tokenizer = _tokenizer(tokens)
    blank = tokenizer.vocab_size
    config_class = model_class.config_class or Wav2Vec2Config
    config = config_class(
        **{
            "vocab_size": blank + 1,
            "pad_token_id": blank,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "intermediate_size": 2 * hidden,
            "conv_dim": (8,) * 7,
            "num_conv_pos_embeddings": 8,
            "num_conv_pos_embedding_groups": 2,
            "feat_extract_norm": feat_extract_norm,
            "do_stable_layer_norm": feat_extract_norm == "layer",
            "initializer_range": SPREAD,
            **settings,
        }
    )
    extractor = Wav2Vec2FeatureExtractor(
        do_normalize=True, return_attention_mask=feat_extract_norm == "layer"
    )
    return _save(directory, _random(lambda: model_class(config), seed), extractor, tokenizer)


def save_small_whisper(
    directory: str | Path,
    tokens: Tokenizer | Sequence[str],
    *,
    hidden: int = 16,
    layers: int = 1,
    seed: int = 0,
    seconds: int = 30,
    languages: int = 0,
) -> Path:
    """A ``WhisperForConditionalGeneration``; its special tokens follow the tokenizer's.

    Args:
        directory: where to; made if missing.
        tokens: a tokenizer, or transcripts to make a character tokenizer of.
        hidden: width of encoder and decoder.
        layers: of encoder and of decoder.
        seed: of the weights.
        seconds: length of its window.
        languages: language tokens; with none it is monolingual.
    """
    tokenizer = _tokenizer(tokens)
    start, end, silent, transcribe = range(tokenizer.vocab_size, tokenizer.vocab_size + 4)
    config = WhisperConfig(
        vocab_size=tokenizer.vocab_size + 4 + languages,
        d_model=hidden,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * hidden,
        decoder_ffn_dim=2 * hidden,
        max_source_positions=seconds * 50,
        max_target_positions=128,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        init_std=SPREAD,
    )
    model = _random(lambda: WhisperForConditionalGeneration(config), seed)
    codes = ("en", "de", "fr", "es")[:languages]
    many = {
        "lang_to_id": {f"<|{code}|>": transcribe + 1 + i for i, code in enumerate(codes)},
        "task_to_id": {"transcribe": transcribe},
        "task": "transcribe",
    }
    # A new one: what the model derives from its config drops the keys that only Whisper has.
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        no_timestamps_token_id=silent,
        **(many if languages else {}),
    )
    return _save(directory, model, WhisperFeatureExtractor(chunk_length=seconds), tokenizer)


def _save_ctc_head(path: Path, classes: int, hidden: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, hidden, generator=generator)
    bias = torch.randn(classes, generator=generator)
    save_file({"weight": weight, "bias": bias}, path / CTC_HEAD)


def _parakeet_encoder(hidden: int, layers: int) -> dict[str, Any]:
    config = ParakeetEncoderConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        conv_kernel_size=5,
        subsampling_factor=4,
        subsampling_conv_channels=8,
        initializer_range=SPREAD,
    )
    settings: dict[str, Any] = config.to_dict()
    return settings


def _tokenizer(tokens: Tokenizer | Sequence[str]) -> Tokenizer:
    if not isinstance(tokens, list | tuple):
        return tokens  # type: ignore[return-value]
    characters = len({*"".join(tokens), " "}) + 1
    return train_sentencepiece(tokens, characters, "char")


def _random(make: Callable[[], Any], seed: int) -> Any:
    """What ``make`` gives under ``seed``; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def _save(directory: str | Path, model: Any, extractor: Any, tokenizer: Tokenizer) -> Path:
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(path)
        extractor.save_pretrained(path)
    tokenizer.save(path)
    return path
