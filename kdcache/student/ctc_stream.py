"""A CTC student that hears chunk by chunk, as it would from a microphone.

What it gives is what the masked pass over the whole utterance gives (``kdcache.student.ctc``), to
float round-off: each layer keeps the keys and values of ``history`` frames before the chunk, the
convolution that tells positions the frames that its kernel reaches back to, and the convolutions
over samples those samples that the next chunk's first frame hears as well.

Shapes: N samples, C convolution channels, T frames of a chunk, D width, V vocabulary with blank.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcache.errors import ConfigError
from kdcache.student import ctc_network as network

if TYPE_CHECKING:
    from kdcache.student.ctc import CTCStudent


class ChunkedCTC:
    """One utterance on its way; samples in, logits of whole chunks out.

    Args:
        student: one that streams, in evaluation mode.

    Raises:
        ConfigError: it hears utterances whole.
    """

    def __init__(self, student: CTCStudent) -> None:
        if student.streaming is None:
            raise ConfigError(
                "This student hears utterances whole; train one with student.streaming to decode "
                "chunk by chunk."
            )
        self._model, self._streaming = student.model, student.streaming
        self._shift = prod(self._model.config.conv_stride)
        self._field = network.receptive_field(self._model.config)
        self._samples_N = torch.zeros(0, device=student.device)
        self._before: Tensor | None = None
        self._past: list[tuple[Tensor, Tensor] | None] = [None] * len(self._layers)

    @property
    def samples_of_chunk(self) -> int:
        """Samples that a chunk needs, those that the next needs too among them."""
        return int((self._streaming.chunk - 1) * self._shift + self._field)

    @property
    def _layers(self) -> torch.nn.ModuleList:
        layers: torch.nn.ModuleList = self._model.wav2vec2.encoder.layers
        return layers

    @torch.inference_mode()
    def feed(self, samples_N: Tensor) -> Tensor:
        """Logits (T, V) of the chunks that these samples complete, often none.

        Args:
            samples_N: float32, any number of them.
        """
        self._samples_N = torch.cat([self._samples_N, samples_N.to(self._samples_N.device)])
        found = []
        while len(self._samples_N) >= self.samples_of_chunk:
            found.append(self._chunk(self._streaming.chunk))
        return self._joined(found)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """Logits (T, V) of the frames that are left when no more samples come."""
        frames = network.frames_of(self._model, torch.tensor([len(self._samples_N)]))
        return self._joined([self._chunk(int(frames))] if int(frames) else [])

    def _chunk(self, frames: int) -> Tensor:
        """Logits (T, V) of the next frames, whose samples are there."""
        heard = self._samples_N[: (frames - 1) * self._shift + self._field]
        self._samples_N = self._samples_N[frames * self._shift :]
        projected_1TD = network.project(self._model, network.convolve(self._model, heard[None]))
        hidden_1TD = projected_1TD + self._positions(projected_1TD)
        for number, layer in enumerate(self._layers):
            past = self._past[number]
            hidden_1TD, seen = network.run_layer(layer, hidden_1TD, past, None)
            self._past[number] = self._kept(seen)
        hidden_1TD = self._model.wav2vec2.encoder.layer_norm(hidden_1TD)
        return network.logits_of(self._model, hidden_1TD)[0].float()

    def _positions(self, projected_1TD: Tensor) -> Tensor:
        before = self._before
        if before is None:
            before = network.no_frames_before(self._model, projected_1TD)
        reach = before.shape[1]
        whole = torch.cat([before, projected_1TD], dim=1)
        self._before = whole[:, whole.shape[1] - reach :]
        return network.positions(self._model, projected_1TD, before)

    def _kept(self, seen: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the last ``history`` frames."""
        history = self._streaming.history
        if not history:
            return None
        keys, values = seen
        return keys[:, -history:], values[:, -history:]

    def _joined(self, chunks: list[Tensor]) -> Tensor:
        classes = self._model.config.vocab_size
        return torch.cat([self._samples_N.new_zeros(0, classes), *chunks])
