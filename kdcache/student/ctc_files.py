"""A CTC student on disk: a Hugging Face directory; of one that hears whole, a teacher directory.

config.json  model.safetensors  preprocessor_config.json  <tokenizer files>
distillation_heads.safetensors  only where layers learn from a teacher's: by ``target.layer.weight``
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC

from kdcache.corpus.tokenizer import load_tokenizer
from kdcache.errors import TokenizerError
from kdcache.quiet import quiet_transformers
from kdcache.student.ctc_network import StreamingWav2Vec2Config, StreamingWav2Vec2ForCTC
from kdcache.student.ctc_settings import HiddenLayer, StreamingSettings
from kdcache.student.transducer_files import DISTILLATION_HEADS

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.student.ctc import CTCStudent


def write_ctc(student: CTCStudent, path: Path) -> None:
    """Write all its files."""
    student.model.save_pretrained(path)
    student.extractor.save_pretrained(path)
    student.tokenizer.save(path)
    weights = {
        f"{name}.{student.hidden_layers[name].layer}.{key}": value.detach().contiguous()
        for name, head in student.hidden_heads.items()
        for key, value in head.state_dict().items()
    }
    if weights:
        save_file(weights, path / DISTILLATION_HEADS)


@dataclass(frozen=True, slots=True)
class CTCParts:
    """What a directory holds.

    Attributes:
        model, tokenizer, streaming, hidden_layers: what a ``CTCStudent`` is made with.
        heads: weights of its projections, by ``target.weight`` and ``target.bias``.
    """

    model: Wav2Vec2ForCTC
    tokenizer: Tokenizer
    streaming: StreamingSettings | None
    hidden_layers: dict[str, HiddenLayer]
    heads: dict[str, Tensor]


def read_ctc(path: Path) -> CTCParts:
    """Read what :func:`write_ctc` wrote.

    Raises:
        TokenizerError: the tokenizer's size is not the model's.
    """
    told = json.loads((path / "config.json").read_text(encoding="utf-8"))
    streams = told["model_type"] == StreamingWav2Vec2Config.model_type
    kind = StreamingWav2Vec2ForCTC if streams else Wav2Vec2ForCTC
    with quiet_transformers():
        model = kind.from_pretrained(path, local_files_only=True, use_safetensors=True)
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size + 1 != model.config.vocab_size:
        raise TokenizerError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{model.config.vocab_size} classes, expected one more than tokens (blank)."
        )
    streaming = None
    if streams:
        streaming = StreamingSettings(chunk=model.config.chunk, history=model.config.history)
    return CTCParts(model, tokenizer, streaming, *_read_heads(path))


def _read_heads(path: Path) -> tuple[dict[str, HiddenLayer], dict[str, Tensor]]:
    file = path / DISTILLATION_HEADS
    layers: dict[str, HiddenLayer] = {}
    heads: dict[str, Tensor] = {}
    for key, value in (load_file(file) if file.is_file() else {}).items():
        name, layer, part = key.split(".")
        layers[name] = HiddenLayer(layer=int(layer), width=len(value))
        heads[f"{name}.{part}"] = value
    return layers, heads
