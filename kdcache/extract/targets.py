"""The configured targets, each with its codec, checked against the teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.codec import make_codec
from kdcache.target import make_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kdcache.codec import RecordCodec
    from kdcache.target import Reduced, Target
    from kdcache.teacher import TeacherOutput
    from kdcache.types import TargetSpec, TeacherSpec


@dataclass(frozen=True, slots=True)
class BoundTarget:
    """A target with the codec that packs it.

    Attributes:
        name: its name in the cache.
        target: what reduces the teacher's output.
        codec: what packs the reduced record.
    """

    name: str
    target: Target
    codec: RecordCodec

    def pack(self, output: TeacherOutput) -> Reduced:
        """Reduce and pack one utterance's output.

        Raises:
            TeacherOutputError: NaN or +inf among the teacher's numbers.
        """
        return self.target.reduce(output, self.codec)


def bind_targets(specs: Iterable[TargetSpec], teacher: TeacherSpec) -> tuple[BoundTarget, ...]:
    """Targets ready to reduce what ``teacher`` says.

    Raises:
        UnsupportedTargetError: the teacher cannot give one of them.
        ConfigError: an unknown setting or codec.
    """
    bound = []
    for spec in specs:
        target = make_target(spec)
        target.check(teacher)
        bound.append(BoundTarget(spec.name, target, make_codec(spec.record, spec.codec)))
    return tuple(bound)
