"""Greedy decoding by an attention decoder: the best class at every step, until it is the end.

Shapes: B batch, T encoder frames, M width of the encoder, V vocabulary with the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from kdcache.network.attention_decoder import AttentionDecoder


@torch.inference_mode()
def greedy_attention(
    decoder: AttentionDecoder, hidden_BTM: Tensor, frames_B: Tensor, *, longest: int | None = None
) -> list[list[int]]:
    """Label ids of each utterance; the end is not among them.

    An attention decoder may go round in circles, so that labels are bounded.

    Args:
        decoder: in evaluation mode.
        hidden_BTM: the encoder's frames.
        frames_B: T of each utterance, at least 1.
        longest: most labels of an utterance; as many as it has frames if ``None``.
    """
    labels: list[list[int]] = [[] for _ in range(len(frames_B))]
    bounds = frames_B.tolist() if longest is None else [longest] * len(labels)
    state = decoder.begin(hidden_BTM, frames_B)
    last_R = torch.full_like(frames_B, decoder.end)
    alive = list(range(len(labels)))
    for _ in range(max(bounds, default=0)):
        logits_RV, state = decoder.step(last_R, state)
        best = logits_RV.argmax(-1).tolist()
        for row, label in zip(alive, best, strict=True):
            if label != decoder.end:
                labels[row].append(label)
        going = [
            at
            for at, (row, label) in enumerate(zip(alive, best, strict=True))
            if label != decoder.end and len(labels[row]) < bounds[row]
        ]
        if not going:
            break
        if len(going) < len(alive):
            state = state.rows(torch.tensor(going, device=frames_B.device))
        last_R = torch.tensor([best[at] for at in going], device=frames_B.device)
        alive = [alive[at] for at in going]
    return labels
