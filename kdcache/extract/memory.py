"""Too little memory for a batch: how that is told from other failures, and what is learnt of it."""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass

import torch

_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""What runtime errors of torch, CUDA's libraries and the operating system say of it."""


@dataclass(slots=True)
class Room:
    """Audio that fits in memory at once, as far as is known: it only ever shrinks.

    Attributes:
        samples: of a padded batch, at most; a batch of one utterance is tried whatever it is.
    """

    samples: float = math.inf

    def holds(self, samples: int) -> bool:
        """Whether a padded batch of so many samples may be tried."""
        return samples <= self.samples

    def shrink(self, samples: int) -> None:
        """So many were too many: half of them at most from now on."""
        self.samples = min(self.samples, samples / 2)


def is_memory_error(error: BaseException) -> bool:
    """Whether ``error`` says that memory, of a device or the machine, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)


def release_memory() -> None:
    """Give back what the failed attempt held; to be called when its exception is gone."""
    gc.collect()
    torch.cuda.empty_cache()  # nothing where there is no GPU
