"""Codebooks, trained before a cache is begun.

Codec ``codebooks`` packs vectors by a table that is part of the cache's spec, so that every actor
and every reader has the same. It is made once: from a sample of what the teacher says where there
is no cache yet, else taken from the cache (``kdcache.extract.settle``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdcache.codec.quantised import CodebookVectorCodec
from kdcache.errors import ConfigError
from kdcache.target import Reduced, make_target
from kdcache.target.codebooks import VectorSample, train_codebooks
from kdcache.target.vector import VectorTarget
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from kdcache.extract.goals import Wanted
    from kdcache.teacher import TeacherOutput


def waits_for_codebooks(wanted: Wanted) -> bool:
    """Whether a target asks for codebooks that are not there yet."""
    if not isinstance(wanted, TargetSpec):
        return False
    codec = wanted.codec
    return codec.get("name") == CodebookVectorCodec.name and codec.get("table") is None


@dataclass(frozen=True, slots=True)
class CodebookListener:
    """In the place of a target: collects the vectors that the target would pack.

    Attributes:
        spec: of the target.
        target: whose vectors are collected.
        sample: what keeps some of them.
    """

    spec: TargetSpec
    target: VectorTarget
    sample: VectorSample

    @classmethod
    def of(cls, spec: TargetSpec, utterances: int) -> CodebookListener:
        """Ready to listen to so many utterances.

        Raises:
            ConfigError: the target is none of vectors.
        """
        target = make_target(spec)
        if not isinstance(target, VectorTarget):
            raise ConfigError(f"Target {spec.name!r} has no vectors to train codebooks on.")
        return cls(spec, target, VectorSample(utterances))

    @property
    def name(self) -> str:
        """Of the target."""
        return self.spec.name

    def pack(self, output: TeacherOutput) -> Reduced:
        """Listen to one utterance; nothing is packed."""
        self.sample.add(output.utterance, self.target.vectors(output))
        return Reduced({}, {})

    def settled(self) -> TargetSpec:
        """The target, with codebooks in its codec's table."""
        codebooks = train_codebooks(self.sample.vectors(), self.spec.codec["count"])
        return replace(self.spec, codec={**self.spec.codec, "table": codebooks.to_dict()})
