"""A SAN-M network on disk, as Hugging Face lays models out: ``config.json``, ``model.safetensors``.

Weights that layers share are there once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kdcache.errors import InputError
from kdcache.network.san_m import SanM
from kdcache.network.san_m_settings import SanMSettings

if TYPE_CHECKING:
    from pathlib import Path

MODEL_TYPE = "kdcache_san_m"
ARCHITECTURE = "KdcacheSanM"

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_san_m(network: SanM, directory: Path) -> None:
    """Write config and weights; the same network gives the same bytes."""
    config = {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        "vocab_size": network.classes,
        "blank_token_id": network.classes - 1,
        "sizes": network.settings.model_dump(),
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (directory / CONFIG).write_text(text, encoding="utf-8")
    weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, directory / WEIGHTS, {"format": "pt"})


def load_san_m(directory: Path) -> SanM:
    """Read what :func:`save_san_m` wrote, in evaluation mode.

    Raises:
        InputError: it is no such network.
    """
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        settings = SanMSettings.model_validate(config["sizes"])
        network = SanM(int(config["vocab_size"]), settings)
        network.load_state_dict(load_file(directory / WEIGHTS))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{directory} holds no SAN-M network ({type(error).__name__}: {reason}); restore it."
        ) from error
    except RuntimeError as error:  # torch's word for shapes and names that differ
        raise InputError(
            f"{directory / WEIGHTS} does not have the weights that {CONFIG} beside it tells of; "
            "put the two together that were saved together."
        ) from error
    return network.eval()
