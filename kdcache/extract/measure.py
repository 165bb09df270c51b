"""What settings cost and lose on a sample of the teacher's answers.

Bytes are those of the arrays that would be stored. Losses are what would be recorded in the
catalogue, of every row: the targets' own code packs, unpacks and compares. The mean is over all
rows, as `kdcache inspect` has it; what it hardly exceeds in the whole corpus is 1.645 standard
errors above (95 % of samples, one side), and utterances, not rows, are what was drawn:

    m = Σ_u n_u l_u / Σ_u n_u,    var m ≈ N/(N−1) · Σ_u (n_u (l_u − m))² / (Σ_u n_u)²,

the ratio estimator of cluster sampling (Cochran, Sampling Techniques, section 9A.1).

Shapes: N utterances, R rows (frames, tokens or nodes) of one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from kdcache.codec import make_codec
from kdcache.errors import ConfigError
from kdcache.target import make_target
from kdcache.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from kdcache.codec import RecordCodec
    from kdcache.extract.goals import Asked
    from kdcache.target import Reduced, Target
    from kdcache.teacher import TeacherOutput
    from kdcache.types import TargetSpec

_ERRORS = 1.645
_LEAST_INSIDE = 1e-12
"""Share of the occupancy that a band keeps at least, lest a logarithm be infinite."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a teacher said of some utterances.

    Attributes:
        outputs: on the teacher's device.
        seconds: of audio of each.
    """

    outputs: tuple[TeacherOutput, ...]
    seconds: tuple[float, ...]

    @property
    def hours(self) -> float:
        """Of audio."""
        return sum(self.seconds) / 3600

    def some(self, count: int) -> Sample:
        """At most so many, evenly spaced."""
        step = max(1, -(-len(self.outputs) // count))
        return Sample(self.outputs[::step], self.seconds[::step])

    def halves(self) -> tuple[Sample, Sample]:
        """Every other utterance; one alone is in both."""
        if len(self.outputs) < 2:
            return self, self
        first, second = (Sample(self.outputs[start::2], self.seconds[start::2]) for start in (0, 1))
        return first, second


@dataclass(frozen=True, slots=True)
class Measured:
    """A setting, what it takes and what it loses: nats a row.

    Attributes:
        spec: the setting.
        bytes_per_hour: of audio.
        mean: over all rows.
        upper: what the mean of the whole corpus hardly exceeds.
        p99: 99th percentile over rows.
    """

    spec: TargetSpec
    bytes_per_hour: float
    mean: float
    upper: float
    p99: float


@runtime_checkable
class _TwoSteps(Protocol):
    """A target of which one half of the work is the same for all codecs."""

    def collapse(self, output: TeacherOutput) -> Any: ...

    def pack(self, collapsed: Any, codec: RecordCodec) -> Reduced: ...


def by_settings(specs: Sequence[TargetSpec]) -> list[list[TargetSpec]]:
    """Specs of equal settings side by side, so that they are measured together."""
    groups: dict[str, list[TargetSpec]] = {}
    for spec in specs:
        groups.setdefault(canonical_json(spec.settings), []).append(spec)
    return list(groups.values())


def measure(
    specs: Sequence[TargetSpec], sample: Sample, asked: Asked, corpus_hours: float
) -> list[Measured]:
    """Measure specs of one target that differ in their codecs alone.

    Args:
        specs: of equal settings.
        sample: of at least one utterance.
        asked: says which loss counts.
        corpus_hours: over which a table in a codec's settings is spread; 0 where nobody knows.
    """
    target = make_target(specs[0])
    codecs = [make_codec(spec.record, spec.codec) for spec in specs]
    sizes = np.zeros(len(specs))
    losses: list[list[np.ndarray]] = [[] for _ in specs]
    for output in sample.outputs:
        for i, reduced in enumerate(_reduced(target, output, codecs)):
            sizes[i] += sum(array.nbytes for array in reduced.columns.values())
            losses[i].append(_loss(reduced, asked))
    hourly = sizes / sample.hours
    return [
        _measured(spec, size + _table_bytes(spec, corpus_hours), lost)
        for spec, size, lost in zip(specs, hourly.tolist(), losses, strict=True)
    ]


def _reduced(target: Target, output: TeacherOutput, codecs: Sequence[RecordCodec]) -> list[Reduced]:
    if isinstance(target, _TwoSteps):
        collapsed = target.collapse(output)
        return [target.pack(collapsed, codec) for codec in codecs]
    return [target.reduce(output, codec) for codec in codecs]


def _loss(reduced: Reduced, asked: Asked) -> np.ndarray:
    """What counts of each row, float64 (R,); of a target that tells no rows, its mean as one."""
    given, mean = reduced.losses.get(asked.measure), f"{asked.measure}_mean"
    if given is None and mean not in reduced.fidelity:
        raise ConfigError(
            f"Target {asked.name!r} does not tell its {mean}, to which max_kl could hold it; leave "
            "max_kl out."
        )
    if given is None:
        given = np.array([reduced.fidelity[mean]])
    loss_R: np.ndarray = np.asarray(given, np.float64).reshape(-1)
    if asked.band:
        inside = 1.0 - reduced.fidelity.get("band_outside", 0.0)
        loss_R = loss_R - np.log(max(inside, _LEAST_INSIDE))
    return loss_R


def _table_bytes(spec: TargetSpec, corpus_hours: float) -> float:
    """Of a table in the settings, per hour of the corpus."""
    table = spec.codec.get("tail")
    if not isinstance(table, dict) or not corpus_hours:
        return 0.0
    return len(canonical_json(table)) / corpus_hours


def _measured(spec: TargetSpec, hourly: float, losses: Sequence[np.ndarray]) -> Measured:
    rows = np.concatenate(losses)
    if not np.isfinite(rows).all():
        return Measured(spec, hourly, np.inf, np.inf, np.inf)
    mean = float(rows.mean())
    off_N = np.array([(loss_R - mean).sum() for loss_R in losses])
    spread = float((off_N**2).sum()) * len(losses) / max(1, len(losses) - 1)
    error = np.sqrt(spread) / len(rows) if len(losses) > 1 else 0.0
    high = float(np.quantile(rows, 0.99, method="inverted_cdf"))
    return Measured(spec, hourly, mean, mean + _ERRORS * float(error), high)
