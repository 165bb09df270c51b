"""An attention decoder on disk: one safetensors file whose header says how large it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kdcache.errors import InputError
from kdcache.network.attention_decoder import AttentionDecoder
from kdcache.network.decoder_settings import DecoderSettings

if TYPE_CHECKING:
    from pathlib import Path

RESCORER = "rescorer.safetensors"
"""Beside a transducer's ``model.safetensors``: the decoder of its second pass."""

SETTINGS = "decoder"
"""Key of the header under which the sizes are, as JSON."""


def save_decoder(decoder: AttentionDecoder, path: Path) -> None:
    """Write weights and sizes; the same decoder gives the same bytes."""
    weights = {name: value.detach().contiguous() for name, value in decoder.state_dict().items()}
    sizes = json.dumps(decoder.settings.model_dump(), sort_keys=True)
    save_file(weights, path, {SETTINGS: sizes})


def load_decoder(path: Path, classes: int, memory: int) -> AttentionDecoder:
    """Read what :func:`save_decoder` wrote, in evaluation mode.

    Args:
        path: the file.
        classes: V that the model beside it has.
        memory: width of that model's encoder.

    Raises:
        InputError: it is no such file, or belongs to another model.
    """
    try:
        with safe_open(path, "pt") as file:
            sizes = json.loads((file.metadata() or {})[SETTINGS])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        decoder = AttentionDecoder(classes, memory, DecoderSettings.model_validate(sizes))
        decoder.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, ValueError, ValidationError) as error:
        raise InputError(f"{path} is no attention decoder ({error}); restore it.") from error
    except RuntimeError as error:  # torch's word for shapes and names that differ
        raise InputError(
            f"{path} does not fit the model beside it, which has {classes} classes and an encoder "
            f"of width {memory}; put the decoder there that was trained with it."
        ) from error
    return decoder.eval()
