"""wav2vec 2.0's network run part by part, whole or chunk by chunk.

The weights are those of ``transformers``' Wav2Vec2ForCTC in its form with layer norms, which has
no statistics over time: a group norm over time, as in the first published models, would hear the
whole utterance. What is different where it streams:

- the convolution that tells positions is padded on the left alone, so that it is causal;
- attention goes to the frame's own chunk and to ``history`` frames before that chunk.

Both need no other weights, so that a student that streams can start from one that does not.

Shapes: B batch, N samples, C convolution channels, T frames, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

if TYPE_CHECKING:
    from kdcache.student.ctc_settings import StreamingSettings


class StreamingWav2Vec2Config(Wav2Vec2Config):  # type: ignore[misc]
    """A Wav2Vec2Config that also says how the network streams."""

    model_type = "kdcache_streaming_wav2vec2"

    chunk: int = 24
    history: int = 96


class StreamingWav2Vec2ForCTC(Wav2Vec2ForCTC):  # type: ignore[misc]
    """The same weights as a network that streams; another name, so that nobody runs it whole."""

    config_class = StreamingWav2Vec2Config


def convolve(model: Wav2Vec2ForCTC, audio_BN: Tensor) -> Tensor:
    """The convolutions over samples: (B, T, C). Frame t hears ``receptive_field`` samples."""
    features_BCT: Tensor = model.wav2vec2.feature_extractor(audio_BN)
    return features_BCT.transpose(1, 2)


def project(model: Wav2Vec2ForCTC, features_BTC: Tensor) -> Tensor:
    """Features normalised frame by frame and projected to the transformer's width."""
    projected_BTD: Tensor = model.wav2vec2.feature_projection(features_BTC)[0]
    return projected_BTD


def frames_of(model: Wav2Vec2ForCTC, lengths_B: Tensor) -> Tensor:
    """Frames that so many samples give; 0 where they are too few for one."""
    for kernel, stride in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        lengths_B = ((lengths_B - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)
    return lengths_B


def receptive_field(config: Wav2Vec2Config) -> int:
    """Samples that one frame hears."""
    samples = 1
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
        samples = (samples - 1) * stride + kernel
    return int(samples)


def positions(model: Wav2Vec2ForCTC, projected_BTD: Tensor, before: Tensor | None) -> Tensor:
    """What tells positions, of frames whose predecessors are ``before`` (B, kernel − 1, D).

    Args:
        model: whose convolution it is.
        projected_BTD: the frames.
        before: frames before these, zeros at the beginning: causal. ``None`` has as many frames on
            either side, as wav2vec 2.0 has them.
    """
    whole = model.wav2vec2.encoder.pos_conv_embed
    if before is None:
        both_sides: Tensor = whole(projected_BTD)
        return both_sides
    inputs_BDT = torch.cat([before, projected_BTD], dim=1).transpose(1, 2)
    conv = whole.conv
    told_BDT = nn.functional.conv1d(inputs_BDT, conv.weight, conv.bias, groups=conv.groups)
    told_BTD: Tensor = whole.activation(told_BDT).transpose(1, 2)
    return told_BTD


def no_frames_before(model: Wav2Vec2ForCTC, like_BTD: Tensor) -> Tensor:
    """The silence before the first frame: zeros (B, kernel − 1, D)."""
    kernel = model.config.num_conv_pos_embeddings
    return like_BTD.new_zeros(like_BTD.shape[0], kernel - 1, like_BTD.shape[2])


def attention_mask(frames_B: Tensor, frames: int, streaming: StreamingSettings | None) -> Tensor:
    """Whom each frame may look at: bool (B, 1, T, T), rows look at columns.

    Padding is looked at by nobody but itself, so that no row is empty.
    """
    t_T = torch.arange(frames, device=frames_B.device)
    real_BT = t_T < frames_B[:, None]
    allowed_BTT = real_BT[:, None, :] | torch.eye(frames, dtype=torch.bool, device=t_T.device)
    if streaming is not None:
        start_T = t_T - t_T % streaming.chunk
        seen_TT = t_T < (start_T + streaming.chunk)[:, None]
        seen_TT &= t_T >= (start_T - streaming.history)[:, None]
        allowed_BTT = allowed_BTT & seen_TT
    return allowed_BTT[:, None]


def attend(
    layer: Any, hidden_BTD: Tensor, keys_BTD: Tensor, values_BTD: Tensor, mask: Tensor | None
) -> Tensor:
    """A layer's attention of normalised frames to given keys and values, projected: (B, T, D)."""
    attention = layer.attention

    def heads(x_BTD: Tensor) -> Tensor:
        shape = (*x_BTD.shape[:2], attention.num_heads, attention.head_dim)
        return x_BTD.view(shape).transpose(1, 2)

    mixed_BHTd = nn.functional.scaled_dot_product_attention(
        heads(attention.q_proj(hidden_BTD)),
        heads(keys_BTD),
        heads(values_BTD),
        attn_mask=mask,
        dropout_p=attention.dropout if layer.training else 0.0,
    )
    out_BTD: Tensor = attention.out_proj(mixed_BHTd.transpose(1, 2).flatten(2))
    return out_BTD


def run_layer(
    layer: Any, hidden_BTD: Tensor, past: tuple[Tensor, Tensor] | None, mask: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One transformer layer; also the keys and values (B, T, D) of all it looked at.

    Args:
        layer: of ``model.wav2vec2.encoder.layers``.
        hidden_BTD: what the layer before gave.
        past: keys and values of frames before these.
        mask: bool, whom each frame may look at among ``past`` and these; ``None`` for all.
    """
    normed_BTD = layer.layer_norm(hidden_BTD)
    keys, values = layer.attention.k_proj(normed_BTD), layer.attention.v_proj(normed_BTD)
    if past is not None:
        keys, values = torch.cat([past[0], keys], 1), torch.cat([past[1], values], 1)
    mixed_BTD = attend(layer, normed_BTD, keys, values, mask)
    hidden_BTD = hidden_BTD + layer.dropout(mixed_BTD)
    out_BTD = hidden_BTD + layer.feed_forward(layer.final_layer_norm(hidden_BTD))
    return out_BTD, (keys, values)


def encode(
    model: Wav2Vec2ForCTC,
    features_BTC: Tensor,
    frames_B: Tensor,
    streaming: StreamingSettings | None,
) -> tuple[Tensor, list[Tensor]]:
    """The transformer over whole utterances: last hidden states, and what each layer gave.

    Args:
        model: whose weights are used.
        features_BTC: of the convolutions.
        frames_B: T of each utterance.
        streaming: how it streams, if it does.
    """
    encoder, frames = model.wav2vec2.encoder, features_BTC.shape[1]
    real_BT = torch.arange(frames, device=frames_B.device) < frames_B[:, None]
    projected_BTD = project(model, features_BTC).masked_fill(~real_BT[..., None], 0.0)
    before = None if streaming is None else no_frames_before(model, projected_BTD)
    hidden_BTD = encoder.dropout(projected_BTD + positions(model, projected_BTD, before))
    mask = attention_mask(frames_B, frames, streaming)
    layers = []
    for layer in encoder.layers:
        hidden_BTD, _ = run_layer(layer, hidden_BTD, None, mask)
        layers.append(hidden_BTD)
    return encoder.layer_norm(hidden_BTD), layers


def logits_of(model: Wav2Vec2ForCTC, hidden_BTD: Tensor) -> Tensor:
    """The CTC projection of last hidden states: (B, T, V)."""
    logits_BTV: Tensor = model.lm_head(model.dropout(hidden_BTD))
    return logits_BTV
