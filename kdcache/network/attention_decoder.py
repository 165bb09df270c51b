"""A transformer decoder over an encoder's frames: the second pass of a two-pass model.

Label by label it says what comes next, from the labels before and from all frames ("Listen, attend
and spell", Chan et al. 2016, arXiv 1508.01211, with the layers of Vaswani et al. 2017, arXiv
1706.03762, normalised before each sublayer). One class id, the last, which is a transducer's blank,
is what it starts from and what it ends with: a decoder never writes blank.

Positions are sines, so that labels may be as many as there are.

Shapes: B batch, T encoder frames, U labels, L labels fed at once, N labels fed so far, W width, M
width of the encoder, V vocabulary with the end, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdcache.network.attention import Attention, KeysValues
from kdcache.network.sharing import Share, weights_of_layers
from kdcache.network.sines import sines

if TYPE_CHECKING:
    from kdcache.network.decoder_settings import DecoderSettings


@dataclass(frozen=True, slots=True)
class DecoderState:
    """What a decoder keeps between one label and the next, a row a label sequence.

    Attributes:
        memory: keys and values of the frames, by layer.
        seen_B11T: which frames are real.
        past: keys and values of the labels fed so far, by layer; empty before the first.
        fed: how many these are.
    """

    memory: tuple[KeysValues, ...]
    seen_B11T: Tensor
    past: tuple[KeysValues, ...]
    fed: int

    def rows(self, rows_R: Tensor) -> DecoderState:
        """The state of some of the rows, repeated at will."""

        def pick(kept: tuple[KeysValues, ...]) -> tuple[KeysValues, ...]:
            return tuple((keys[rows_R], values[rows_R]) for keys, values in kept)

        return DecoderState(pick(self.memory), self.seen_B11T[rows_R], pick(self.past), self.fed)


class AttentionDecoder(nn.Module):
    """A decoder with random weights.

    Args:
        classes: V, the end included.
        memory: M, width of the encoder's frames.
        settings: how large.
        share: which blocks have their weights in common.
    """

    def __init__(
        self, classes: int, memory: int, settings: DecoderSettings, *, share: Share = "none"
    ) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(classes, settings.width)
        self.dropout = nn.Dropout(settings.dropout)
        self.order = weights_of_layers(settings.layers, share)
        self.blocks = nn.ModuleList(_Block(memory, settings) for _ in set(self.order))
        self.norm = nn.LayerNorm(settings.width)
        self.out = nn.Linear(settings.width, classes)

    @property
    def end(self) -> int:
        """Class id of start and end."""
        return self.embedding.num_embeddings - 1

    def forward(self, labels_BU: Tensor, hidden_BTM: Tensor, frames_B: Tensor) -> Tensor:
        """Logits of what follows the start and each label, (B, U+1, V).

        Row u says which label u is, the row after an utterance's last label that it ends. Each
        row sees the labels before it alone, so that padding is harmless.

        Args:
            labels_BU: int64, any class ids in padding.
            hidden_BTM: the encoder's frames; those beyond ``frames_B`` have no say.
            frames_B: T of each utterance, at least 1.
        """
        return self.spell(labels_BU, self.begin(hidden_BTM, frames_B))

    def spell(self, labels_BU: Tensor, state: DecoderState) -> Tensor:
        """The same from a state before anything was fed, which several sequences may share."""
        start = labels_BU.new_full((labels_BU.shape[0], 1), self.end)
        logits_BLV, _ = self._feed(torch.cat([start, labels_BU], dim=1), state)
        return logits_BLV

    def begin(self, hidden_BTM: Tensor, frames_B: Tensor) -> DecoderState:
        """The state before anything is fed; the frames' keys and values are made here."""
        seen_BT = torch.arange(hidden_BTM.shape[1], device=hidden_BTM.device) < frames_B[:, None]
        heard_BTM = hidden_BTM.masked_fill(~seen_BT[..., None], 0.0)
        memory = tuple(block.to_frames.keys_values(heard_BTM) for block in self._blocks())
        return DecoderState(memory, seen_BT[:, None, None], (), 0)

    def step(self, labels_B: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Logits (B, V) of what follows one more label of each row, and the state after it.

        Args:
            labels_B: int64; the first is ``end``.
            state: of :meth:`begin` or of the step before.
        """
        logits_B1V, state = self._feed(labels_B[:, None], state)
        return logits_B1V[:, 0], state

    def _feed(self, ids_BL: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        fed = state.fed + ids_BL.shape[1]
        places_N = torch.arange(fed, device=ids_BL.device)
        before_LN = places_N <= places_N[state.fed :, None]
        x_BLW = self.embedding(ids_BL)
        x_BLW = x_BLW + sines(places_N[state.fed :], x_BLW.shape[-1]).to(x_BLW.dtype)
        x_BLW = self.dropout(x_BLW)
        past = []
        for layer, block in enumerate(self._blocks()):
            own = state.past[layer] if state.past else None
            x_BLW, kept = block(x_BLW, own, before_LN, state.memory[layer], state.seen_B11T)
            past.append(kept)
        after = DecoderState(state.memory, state.seen_B11T, tuple(past), fed)
        return self.out(self.norm(x_BLW)), after

    def _blocks(self) -> list[_Block]:
        blocks = [block for block in self.blocks if isinstance(block, _Block)]
        return [blocks[index] for index in self.order]


class _Block(nn.Module):
    """Attention to the labels before, attention to the frames, feed-forward."""

    def __init__(self, memory: int, settings: DecoderSettings) -> None:
        super().__init__()
        width, wide = settings.width, settings.width * settings.feed_forward
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.to_labels = Attention(width, width, settings.heads)
        self.to_frames = Attention(width, memory, settings.heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, wide), nn.GELU(), nn.Dropout(settings.dropout), nn.Linear(wide, width)
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self,
        x_BLW: Tensor,
        past: KeysValues | None,
        before_LN: Tensor,
        memory: KeysValues,
        seen_B11T: Tensor,
    ) -> tuple[Tensor, KeysValues]:
        """The states one block higher, and keys and values of all labels fed."""
        normed_BLW = self.norms[0](x_BLW)
        kept = self.to_labels.keys_values(normed_BLW)
        if past is not None:
            kept = (torch.cat([past[0], kept[0]], dim=2), torch.cat([past[1], kept[1]], dim=2))
        x_BLW = x_BLW + self.dropout(self.to_labels(normed_BLW, kept, before_LN))
        x_BLW = x_BLW + self.dropout(self.to_frames(self.norms[1](x_BLW), memory, seen_B11T))
        return x_BLW + self.dropout(self.feed_forward(self.norms[2](x_BLW))), kept
