"""Loading a transformers model as a teacher: exactly what is on disk, or one clear sentence.

Attention runs in the ``eager`` implementation: it computes the softmax in float32, honours
padding masks in every model here, and is the same code on every device, while fused kernels
are chosen by shape and hardware and so would tie an utterance's numbers to its batch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
import transformers

from kdcache.errors import ConfigError, TeacherError
from kdcache.quiet import quiet_transformers

if TYPE_CHECKING:
    from kdcache.teacher.directory import TeacherDirectory

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

OWN: dict[str, str] = {
    "AdditiveTransducer": "kdcache.network.additive_transducer",
}
"""Modules of architectures that transformers does not have."""

# A mask embedding is used in training alone, and some published checkpoints lack it.
TRAINING_ONLY = ("masked_spec_embed",)


def parse_dtype(name: str) -> torch.dtype:
    """The torch dtype called ``name``.

    Raises:
        ConfigError: another name than float32, bfloat16 or float16.
    """
    if name not in DTYPES:
        raise ConfigError(f"dtype is {name!r}; expected one of {', '.join(DTYPES)}.")
    return DTYPES[name]


def parse_device(name: str) -> torch.device:
    """The torch device called ``name``, checked to be there.

    Raises:
        ConfigError: no such device on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"Device {name!r} cannot be used ({reason}); give one of this machine's, such as cpu."
        ) from error
    return device


def load_model(directory: TeacherDirectory, architecture: str, device: str, dtype: str) -> Any:
    """The model in evaluation mode, without gradients, every weight read from its files.

    Raises:
        TeacherError: the files do not make such a model.
        ConfigError: unknown device or dtype.
    """
    where, number = parse_device(device), parse_dtype(dtype)
    home = import_module(OWN[architecture]) if architecture in OWN else transformers
    model_class = getattr(home, architecture, None)
    if model_class is None:
        raise TeacherError(
            f"{directory.path} holds a {architecture}, which transformers "
            f"{transformers.__version__} does not have; install a version that has it."
        )
    try:
        with quiet_transformers():
            model, report = model_class.from_pretrained(
                directory.path,
                dtype=number,
                attn_implementation="eager",
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except Exception as error:  # the library raises nearly anything for a bad directory
        raise _unreadable(directory, architecture, error) from error
    _check_complete(directory, report)
    return model.to(where).eval().requires_grad_(False)


def load_extractor(directory: TeacherDirectory, extractor_class: Any) -> Any:
    """The feature extractor whose settings lie in ``directory``.

    Raises:
        TeacherError: they cannot be read.
    """
    try:
        with quiet_transformers():
            return extractor_class.from_pretrained(directory.path, local_files_only=True)
    except Exception as error:  # as above
        raise _unreadable(directory, extractor_class.__name__, error) from error


def _check_complete(directory: TeacherDirectory, report: dict[str, Any]) -> None:
    """Refuse what transformers would fill with random numbers."""
    missing = sorted(str(key) for key in report.get("missing_keys", ()))
    missing = [key for key in missing if not key.endswith(TRAINING_ONLY)]
    mismatched = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing:
        raise TeacherError(
            f"{directory.path}: the weights lack {missing[0]} ({len(missing)} missing in all); "
            "give a model that was trained with its output layer."
        )
    if mismatched:
        raise TeacherError(
            f"{directory.path}: the weights do not have the shapes that config.json says, for "
            f"example {mismatched[0]}; restore the config that belongs to them."
        )


def _unreadable(directory: TeacherDirectory, what: str, error: Exception) -> TeacherError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return TeacherError(
        f"{directory.path} cannot be loaded as {what} ({reason}); copy or save it again."
    )
