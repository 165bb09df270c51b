"""From one loss an utterance to what an optimiser wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from kdcache.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Literal["none", "sum", "mean"]
"""``none`` keeps (B,); ``sum`` and ``mean`` are over the utterances of the batch."""


def reduce_utterances(loss_B: Tensor, reduction: Reduction) -> Tensor:
    """Reduce losses of utterances (B,) to (B,) or a scalar.

    A NaN stays in its own row with ``none`` and reaches the scalar otherwise: nothing is
    dropped or clamped.

    Raises:
        ConfigError: ``reduction`` is none of none, sum, mean.
    """
    match reduction:
        case "none":
            return loss_B
        case "sum":
            return loss_B.sum()
        case "mean":
            return loss_B.mean()
        case _:
            raise ConfigError(unknown_choice("reduction", reduction, get_args(Reduction)))


def unknown_choice(setting: str, got: str, known: tuple[str, ...]) -> str:
    """The sentence for a setting that is none of the ``known`` words."""
    return f"{setting} is {got!r}; expected one of {', '.join(known)}.{did_you_mean(got, known)}"
