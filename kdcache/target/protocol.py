"""What a target is: which part of a teacher's belief is kept, and what that loses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from kdcache.codec.protocol import RecordCodec
    from kdcache.teacher.protocol import TeacherOutput
    from kdcache.types import TeacherSpec


@dataclass(frozen=True, slots=True)
class Reduced:
    """One utterance's target, packed.

    Attributes:
        columns: the codec's arrays, by the codec's names.
        fidelity: what was lost, as named float values. For posteriors: ``kl_mean`` and
            ``kl_max`` (nats per node or frame, over the kept classes with rest as one: what
            the codec lost) and ``kl_full_mean`` and ``kl_full_max`` (over the whole
            vocabulary, the rest spread evenly: what keeping few classes lost as well); of a
            band of a lattice ``band_outside`` (share of the teacher's occupancy that is in
            none of its windows). For vectors: ``error_mean`` and ``error_max`` (absolute, in
            the vector's unit), and of codebooks ``error_relative`` (squared error ÷ squares). Of
            a score, which loses nothing, ``nats_per_label``, so that it is seen without reading
            a shard; of hypotheses ``mass_outside`` (probability of what is not listed).
        losses: of posteriors, what was lost of each row, by the measure's name without
            ``_mean``, float64 nats: for whoever chooses between settings; not stored.
    """

    columns: dict[str, np.ndarray]
    fidelity: dict[str, float]
    losses: dict[str, np.ndarray] = field(default_factory=dict)


@runtime_checkable
class Target(Protocol):
    """Reduces a teacher's output on the teacher's device. Third parties implement this.

    A target is made by calling its class with its settings as keywords.
    """

    record: ClassVar[str]
    """The kind of record that it makes: ``lattice``, ``posterior``, ``vector``, ``score`` or
    ``hypotheses``."""

    def settings(self) -> dict[str, Any]:
        """All its settings, defaults among them, JSON-ready; keywords of its class."""
        ...

    def check(self, teacher: TeacherSpec) -> None:
        """Raise UnsupportedTargetError, in one sentence, if this teacher cannot give it."""
        ...

    def default_codec(self) -> dict[str, Any]:
        """Codec settings used where the configuration names none."""
        ...

    def reduce(self, output: TeacherOutput, codec: RecordCodec) -> Reduced:
        """Keep, pack, unpack and compare, in bounded memory.

        Raises:
            TeacherOutputError: NaN or +inf among the logits, or a shape that cannot be.
        """
        ...
