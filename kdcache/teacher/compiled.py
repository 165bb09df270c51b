"""A teacher whose layers ``torch.compile`` has turned into kernels of their own.

Layer by layer, because all layers of an encoder share one piece of code, which is compiled once;
for dynamic shapes, because every batch has a shape of its own. It is compiled when it is first
run, for a batch of one utterance and for larger ones: minutes on a CPU, once an actor.

Fused operations round elsewhere than single ones do, most of all in half precision. So a compiled
teacher has a fingerprint of its own, and its answers are never mixed with the other's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch._dynamo.exc import TorchDynamoException

from kdcache.errors import ConfigError
from kdcache.teacher.protocol import Compilable
from kdcache.types import TeacherSpec, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.teacher.protocol import Teacher, TeacherOutput

COMPILED = "layers-1"
"""Goes into the fingerprint; raised when other parts are compiled, or in another way."""


class CompiledTeacher:
    """The same teacher, faster and with a fingerprint of its own.

    Args:
        teacher: loaded; its layers are compiled in place.

    Raises:
        ConfigError: its adapter does not offer it, or this Python cannot compile.
    """

    def __init__(self, teacher: Teacher) -> None:
        if not isinstance(teacher, Compilable):
            raise ConfigError(
                f"teacher.compile is true, and {type(teacher).__name__} has no compile_layers(), "
                "which says what of its model to compile; add it to the adapter, or leave compile "
                "out."
            )
        try:
            teacher.compile_layers()
        except RuntimeError as error:
            raise _impossible(error) from error
        self._teacher = teacher
        parts = {"teacher": teacher.spec.fingerprint, "compiled": COMPILED}
        self._spec = replace(teacher.spec, fingerprint=fingerprint_of(parts))

    @property
    def spec(self) -> TeacherSpec:
        """What the teacher is, with a fingerprint of its own."""
        return self._spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose ids the teacher's classes are."""
        return self._teacher.tokenizer

    @property
    def labels_itself(self) -> bool:
        """Whether utterances may come without labels: as the teacher has it."""
        return bool(getattr(self._teacher, "labels_itself", False))

    def forward(
        self, audio: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
    ) -> list[TeacherOutput]:
        """Run one padded batch; see ``Teacher.forward``.

        Raises:
            ConfigError: its layers cannot be compiled here.
        """
        try:
            return self._teacher.forward(audio, tokens)
        except TorchDynamoException as error:
            raise _impossible(error) from error


def _impossible(error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ConfigError(
        f"teacher.compile is true, and torch.compile cannot do it here ({reason}); install a C++ "
        "compiler (on a GPU, triton as well), or leave compile out."
    )
