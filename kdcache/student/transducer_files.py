"""A transducer student on disk: a Hugging Face directory that is also a teacher directory.

config.json  model.safetensors  preprocessor_config.json  <tokenizer files>
ctc_head.safetensors            only where there is an auxiliary CTC head
distillation_heads.safetensors  only where it learns from a teacher's hidden states
rescorer.safetensors            only where there is an attention decoder for a second pass
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from transformers import ParakeetForRNNT
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.codec.codebooks import ENTRIES
from kdcache.corpus.tokenizer import load_tokenizer
from kdcache.errors import TokenizerError
from kdcache.network.additive_transducer import MODEL_TYPE, AdditiveTransducer
from kdcache.network.decoder_files import RESCORER, load_decoder, save_decoder
from kdcache.quiet import quiet_transformers

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.network.attention_decoder import AttentionDecoder
    from kdcache.student.transducer import TransducerStudent

CTC_HEAD = "ctc_head.safetensors"
DISTILLATION_HEADS = "distillation_heads.safetensors"


def write_transducer(student: TransducerStudent, path: Path) -> None:
    """Write all its files."""
    student.model.save_pretrained(path)
    student.extractor.save_pretrained(path)
    student.tokenizer.save(path)
    if student.ctc_head is not None:
        weights = {k: v.detach().contiguous() for k, v in student.ctc_head.state_dict().items()}
        save_file(weights, path / CTC_HEAD)
    heads = _distillation_heads(student)
    if heads:
        weights = {
            f"{name}.{key}": value.detach().contiguous()
            for name, head in heads.items()
            for key, value in head.state_dict().items()
        }
        save_file(weights, path / DISTILLATION_HEADS)
    if student.rescorer is not None:
        save_decoder(student.rescorer, path / RESCORER)


@dataclass(frozen=True, slots=True)
class TransducerParts:
    """What a directory holds.

    Attributes:
        model, extractor, tokenizer, heads: what a ``TransducerStudent`` is made with.
        ctc: weights of its CTC head, if any.
        distillation: weights of its other heads, by ``head.weight`` and ``head.bias``.
        rescorer: the decoder of its second pass, if any.
    """

    model: ParakeetForRNNT
    extractor: ParakeetFeatureExtractor
    tokenizer: Tokenizer
    heads: dict[str, Any]
    ctc: dict[str, Tensor] | None
    distillation: dict[str, Tensor]
    rescorer: AttentionDecoder | None

    def fill(self, student: TransducerStudent) -> None:
        """Put the heads' weights where they belong."""
        if student.ctc_head is not None and self.ctc is not None:
            student.ctc_head.load_state_dict(self.ctc)
        for name, layer in _distillation_heads(student).items():
            keys = ("weight", "bias")
            layer.load_state_dict({key: self.distillation[f"{name}.{key}"] for key in keys})


def read_transducer(path: Path) -> TransducerParts:
    """Read what :func:`write_transducer` wrote.

    Raises:
        TokenizerError: the tokenizer's size is not the model's.
        InputError: the rescorer is not the model's.
    """
    with quiet_transformers():
        model = _class_of(path).from_pretrained(path, local_files_only=True, use_safetensors=True)
    extractor = ParakeetFeatureExtractor.from_pretrained(path, local_files_only=True)
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size + 1 != model.config.vocab_size:
        raise TokenizerError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{model.config.vocab_size} classes, expected one more than tokens (blank)."
        )
    head, file = path / CTC_HEAD, path / DISTILLATION_HEADS
    weights = load_file(file) if file.is_file() else {}
    widths = {name.partition(".")[0]: len(tensor) for name, tensor in weights.items()}
    heads = {
        "ctc_head": head.is_file(),
        "hidden_head": widths.get("hidden", 0),
        "codebook_head": widths.get("codebooks", 0) // ENTRIES,
    }
    ctc = load_file(head) if head.is_file() else None
    rescorer = None
    if (path / RESCORER).is_file():
        config = model.config
        sizes = (config.vocab_size, config.encoder_config.hidden_size)
        rescorer = load_decoder(path / RESCORER, *sizes)
    return TransducerParts(model, extractor, tokenizer, heads, ctc, weights, rescorer)


def _class_of(path: Path) -> type[ParakeetForRNNT]:
    """What ``config.json`` says that the network is."""
    model_type = json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type")
    return AdditiveTransducer if model_type == MODEL_TYPE else ParakeetForRNNT


def _distillation_heads(student: TransducerStudent) -> dict[str, nn.Linear]:
    """Those that it has, by name."""
    heads = {"hidden": student.hidden_head, "codebooks": student.codebook_head}
    return {name: head for name, head in heads.items() if head is not None}
