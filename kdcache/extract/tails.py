"""Models of the rest, estimated before a cache is begun.

A codec may ask for a model by its kind (``tail: prior``). Its table is part of the cache's spec,
so that every actor and every reader has the same. It is made once: from a sample of what the
teacher says where there is no cache yet, else taken from the cache (``kdcache.extract.settle``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdcache.errors import ConfigError
from kdcache.target import Reduced, make_target
from kdcache.target.posterior import PosteriorTarget
from kdcache.target.tail import TailEstimator
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from kdcache.extract.goals import Wanted
    from kdcache.teacher import TeacherOutput
    from kdcache.types import TeacherSpec


def waits_for_tail(wanted: Wanted) -> bool:
    """Whether a target without a goal names the kind of a model that is not there yet."""
    return isinstance(wanted, TargetSpec) and isinstance(wanted.codec.get("tail"), str)


@dataclass(frozen=True, slots=True)
class TailListener:
    """In the place of a target: tells an estimator what the target would leave.

    Attributes:
        spec: of the target.
        target: whose settings decide what is left.
        estimator: what adds it up.
    """

    spec: TargetSpec
    target: PosteriorTarget
    estimator: TailEstimator

    @classmethod
    def of(cls, spec: TargetSpec, teacher: TeacherSpec) -> TailListener:
        """Ready to listen.

        Raises:
            ConfigError: the target is none of posteriors.
        """
        target = make_target(spec)
        if not isinstance(target, PosteriorTarget):
            raise ConfigError(f"Target {spec.name!r} has no posteriors of which to model the tail.")
        return cls(spec, target, TailEstimator(spec.codec["tail"], teacher.vocab_size))

    @property
    def name(self) -> str:
        """Of the target."""
        return self.spec.name

    def pack(self, output: TeacherOutput) -> Reduced:
        """Listen to one utterance; nothing is packed."""
        self.target.observe(output, self.estimator)
        return Reduced({}, {})

    def settled(self) -> TargetSpec:
        """The target, with a table in the place of the kind."""
        table = self.estimator.model().to_dict()
        return replace(self.spec, codec={**self.spec.codec, "tail": table})
