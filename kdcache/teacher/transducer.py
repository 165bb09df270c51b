"""Transducer teachers: ``ParakeetForRNNT``, and ``AdditiveTransducer`` of this project.

The lattice is not multiplied out here: the output carries the projected encoder frames and
prediction network states, and the joint network makes rows of logits on demand.

Parakeet's joint network adds the two and applies a non-linearity before its output layer, so there
are no encoder logits of its own; where the joint network only adds (``kdcache.network``), what it
takes of the encoder are ``encoder_logits``. Otherwise a directory that holds an auxiliary CTC head
over the encoder's last hidden states (``ctc_head.safetensors``: ``weight`` (V, D), ``bias`` (V,),
the same classes and blank as the lattice) offers ``encoder_logits`` from it. One that holds the
attention decoder of a second pass (``rescorer.safetensors``, see ``kdcache.network``) offers
``decoder_logits``: of each label and of the end, whose class is the last.

Shapes: B batch, F feature frames, M mel bands, T encoder frames, U labels, J joint width, D
hidden size, V vocabulary with blank, N sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence

from kdcache.errors import InputError, TeacherError
from kdcache.network.additive_transducer import AdditiveTransducer
from kdcache.network.decoder_files import load_decoder
from kdcache.teacher.parakeet import ParakeetTeacher
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from kdcache.network.attention_decoder import AttentionDecoder
    from kdcache.teacher.directory import TeacherDirectory


class TransducerTeacher(ParakeetTeacher):
    """A transducer as a teacher."""

    kind = TeacherKind.TRANSDUCER
    version = "1"

    def _prepare(self, files: TeacherDirectory) -> None:
        super()._prepare(files)
        shape = (self.vocab_size, self.hidden_size)
        head = read_ctc_head(files.ctc_head, shape) if files.ctc_head else None
        if head is not None:
            head = (head[0].to(self.device, self.dtype), head[1].to(self.device, self.dtype))
        self._head = head
        rescorer = read_rescorer(files.rescorer, shape) if files.rescorer else None
        if rescorer is not None:
            rescorer = rescorer.to(self.device, self.dtype).requires_grad_(False)
        self._rescorer = rescorer
        self.predictor = LstmPredictor(self.model.decoder, self.start_id)

    @property
    def _is_additive(self) -> bool:
        return isinstance(self.model, AdditiveTransducer)

    @property
    def blank_id(self) -> int:
        """Class id of blank."""
        return self.configured_class("blank_token_id")

    @property
    def start_id(self) -> int:
        """The id that decoding starts from: what generation uses, blank by default."""
        for config in (self.model.generation_config, self.model.config):
            start = getattr(config, "decoder_start_token_id", None)
            if start is not None:
                return int(start)
        return self.blank_id

    @property
    def targets(self) -> tuple[str, ...]:
        """Encoder logits only of an additive joint network or with an auxiliary head, decoder
        logits only with a rescorer."""
        has_logits = self._is_additive or self._head is not None
        first = ("decoder_logits",) if self._rescorer is not None else ()
        heads = (*first, "encoder_logits") if has_logits else first
        return (*heads, "features", "hidden", "lattice")

    def _forward(
        self, audio: list[np.ndarray], tokens: list[tuple[int, ...]]
    ) -> list[TeacherOutput]:
        features_BFM, mask_BF = self.features(audio)
        encoded = self.model.get_audio_features(features_BFM.to(self.dtype), attention_mask=mask_BF)
        states_BUJ = self.predict(tokens)
        spelt_BUV = self._spell(encoded, tokens)
        frames_B = encoded.attention_mask.sum(-1).tolist()
        outputs = []
        for row, (frames, labels) in enumerate(zip(frames_B, tokens, strict=True)):
            hidden_TD = encoded.last_hidden_state[row, :frames]
            lattice = LatticeLogits(
                encoder_TJ=encoded.pooler_output[row, :frames],
                decoder_UJ=states_BUJ[row, : len(labels) + 1],
                joint=self.joint,
                blank=self.blank_id,
                predictor=self.predictor,
            )
            outputs.append(
                TeacherOutput(
                    frames=frames,
                    tokens=labels,
                    hidden_TD=hidden_TD,
                    frame_logits_TV=self._frame_logits(lattice, hidden_TD),
                    lattice=lattice,
                    token_logits_UV=None
                    if spelt_BUV is None
                    else spelt_BUV[row, : len(labels) + 1],
                    end=None if self._rescorer is None else self._rescorer.end,
                    features_FM=features_BFM[row, : int(mask_BF[row].sum())],
                )
            )
        return outputs

    def _frame_logits(self, lattice: LatticeLogits, hidden_TD: Tensor) -> Tensor | None:
        """What the encoder says of each frame: (T, V); ``None`` where it cannot say."""
        if self._is_additive:
            return lattice.encoder_TJ
        return None if self._head is None else linear(hidden_TD, *self._head)

    def predict(self, tokens: list[tuple[int, ...]]) -> Tensor:
        """Prediction network states (B, U+1, J) after the start and each label.

        The network is causal, so what pads a row does not reach its real states.
        """
        rows = [torch.tensor((self.start_id, *labels)) for labels in tokens]
        ids_BU = pad_sequence(rows, batch_first=True, padding_value=self.start_id)
        states_BUJ: Tensor = self.model.decoder(ids_BU.to(self.device))
        return states_BUJ

    def _spell(self, encoded: Any, tokens: list[tuple[int, ...]]) -> Tensor | None:
        """The second pass's logits of labels and end, (B, U+1, V); causal as the network above."""
        if self._rescorer is None:
            return None
        rows = [torch.tensor(labels, dtype=torch.long, device=self.device) for labels in tokens]
        labels_BU = pad_sequence(rows, batch_first=True)
        frames_B = encoded.attention_mask.sum(-1)
        logits_BUV: Tensor = self._rescorer(labels_BU, encoded.last_hidden_state, frames_B)
        return logits_BUV

    def joint(self, encoder: Tensor, decoder: Tensor) -> Tensor:
        """Logits of nodes, from broadcastable encoder frames and prediction states."""
        with torch.no_grad():
            logits: Tensor = self.model.joint(
                decoder_hidden_states=decoder, encoder_hidden_states=encoder
            )
        return logits


class LstmPredictor:
    """Parakeet's prediction network, label by label; see ``Predictor``.

    A state is the LSTM's two, with the sequences first: (N, layers, J) each.

    Args:
        network: the model's ``decoder``.
        start_id: the id that decoding starts from.
    """

    def __init__(self, network: Any, start_id: int) -> None:
        self._network = network
        self._start_id = start_id

    def start(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Output (1, J) after the start id alone."""
        device = self._network.embedding.weight.device
        return self._run(torch.tensor([self._start_id], device=device), None)

    def step(
        self, labels_N: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs (N, J) after one more label of each sequence."""
        return self._run(labels_N, tuple(s.transpose(0, 1).contiguous() for s in state))

    @torch.no_grad()
    def _run(
        self, labels_N: Tensor, state: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        embedded_N1J = self._network.embedding(labels_N[:, None])
        output_N1J, state = self._network.lstm(embedded_N1J, state)
        output_NJ: Tensor = self._network.decoder_projector(output_N1J[:, 0])
        return output_NJ, tuple(s.transpose(0, 1) for s in state or ())


def read_rescorer(path: Path, shape: tuple[int, int]) -> AttentionDecoder:
    """The attention decoder of a second pass, for V classes and an encoder D wide.

    Raises:
        TeacherError: the file is not such a decoder.
    """
    try:
        return load_decoder(path, *shape)
    except InputError as error:
        raise TeacherError(error.message) from error


def read_ctc_head(path: Path, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Weight (V, D) and bias (V,) of an auxiliary CTC head.

    Raises:
        TeacherError: the file is not such a head.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise TeacherError(f"{path} cannot be read ({error}); copy or save it again.") from error
    got = {name: tuple(tensor.shape) for name, tensor in sorted(tensors.items())}
    if got != {"bias": shape[:1], "weight": shape}:
        raise TeacherError(
            f"{path} holds {got}, expected weight {shape} and bias {shape[:1]}; it belongs to "
            "another model: remove it or put the right one there."
        )
    return tensors["weight"], tensors["bias"]
