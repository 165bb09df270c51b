"""What is recorded of an utterance that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from kdcache.errors import KdcacheError, TeacherMemoryError, UtteranceError
from kdcache.extract.memory import is_memory_error
from kdcache.store import FailedUtterance

if TYPE_CHECKING:
    from kdcache.types import Utterance

_LONGEST_MESSAGE = 500
"""Characters of an unexpected error's text that are recorded."""


def failure_of(utterance: Utterance, error: Exception) -> FailedUtterance:
    """An error's stable code, or its class where kdcache did not raise it, and its text."""
    code = error.code if isinstance(error, KdcacheError) else type(error).__name__
    return FailedUtterance(utterance=utterance, code=code, message=told(error))


def failure_of_answer(utterance: Utterance, seconds: float, error: Exception) -> FailedUtterance:
    """The same for an utterance that was decoded: it may have been too long for the memory.

    Args:
        utterance: that failed, by itself.
        seconds: of its audio.
        error: what happened.
    """
    if is_memory_error(error):
        short = TeacherMemoryError(
            f"Memory does not suffice for this utterance of {seconds:.1f} s by itself "
            f"({told(error)}); cut it, or give each actor more."
        )
        return failure_of(utterance, short)
    return failure_of(utterance, error)


def told(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())[:_LONGEST_MESSAGE]
    return text if isinstance(error, UtteranceError) else f"{type(error).__name__}: {text}"


def pass_on_broken_device(error: Exception) -> None:
    """Raise ``error`` again where the device, not the utterance, is to blame.

    After such an error a CUDA process answers nothing any more; it must be replaced. Too little
    memory is not one: the process goes on.
    """
    if isinstance(error, torch.AcceleratorError) and not is_memory_error(error):
        raise error
