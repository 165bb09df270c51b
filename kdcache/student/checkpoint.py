"""A student on disk: a Hugging Face directory that is also a teacher directory.

config.json  model.safetensors  preprocessor_config.json  <tokenizer files>
ctc_head.safetensors            only where there is an auxiliary CTC head
distillation_heads.safetensors  only where it learns from a teacher's hidden states
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file
from transformers import ParakeetForRNNT
from transformers.models.parakeet import ParakeetFeatureExtractor

from kdcache.codec.codebooks import ENTRIES
from kdcache.corpus.tokenizer import load_tokenizer
from kdcache.errors import InputError, TokenizerError
from kdcache.quiet import quiet_transformers
from kdcache.student.transducer import TransducerStudent

if TYPE_CHECKING:
    import torch
    from torch import nn

CTC_HEAD = "ctc_head.safetensors"
DISTILLATION_HEADS = "distillation_heads.safetensors"


def save_student(student: TransducerStudent, directory: str | Path) -> Path:
    """Write the directory (made if needed) and return it."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
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
    return path


def _distillation_heads(student: TransducerStudent) -> dict[str, nn.Linear]:
    """Those that it has, by name."""
    heads = {"hidden": student.hidden_head, "codebooks": student.codebook_head}
    return {name: head for name, head in heads.items() if head is not None}


def load_student(directory: str | Path, device: torch.device | str = "cpu") -> TransducerStudent:
    """Read what :func:`save_student` wrote; the student is in evaluation mode.

    Raises:
        InputError: the directory holds no transducer that can be read.
        TokenizerError: the tokenizer's size is not the model's.
    """
    path = Path(directory)
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path} is not a trained student: it has no config.json; give the directory that "
            "`kdcache train` wrote."
        )
    with quiet_transformers():
        model = ParakeetForRNNT.from_pretrained(path, local_files_only=True, use_safetensors=True)
    extractor = ParakeetFeatureExtractor.from_pretrained(path, local_files_only=True)
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size + 1 != model.config.vocab_size:
        raise TokenizerError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens and the model "
            f"{model.config.vocab_size} classes, expected one more than tokens (blank)."
        )
    head = path / CTC_HEAD
    file = path / DISTILLATION_HEADS
    weights = load_file(file) if file.is_file() else {}
    widths = {name.partition(".")[0]: len(tensor) for name, tensor in weights.items()}
    student = TransducerStudent(
        model,
        extractor,
        tokenizer,
        ctc_head=head.is_file(),
        hidden_head=widths.get("hidden", 0),
        codebook_head=widths.get("codebooks", 0) // ENTRIES,
    )
    if student.ctc_head is not None:
        student.ctc_head.load_state_dict(load_file(head))
    for name, layer in _distillation_heads(student).items():
        layer.load_state_dict({key: weights[f"{name}.{key}"] for key in ("weight", "bias")})
    return student.to(device).eval()
