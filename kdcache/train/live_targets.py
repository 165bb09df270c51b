"""Targets of a teacher that is in the process, by the same reductions as a cache's.

What an extraction would do with an utterance is done here but for the packing: the teacher's output
is reduced by ``kdcache.target`` and padded as a stream would pad it. So a loss on these targets and
one on a cache's differ by what the codec lost, and by nothing else.

Shapes: B batch, T encoder frames, U labels, J joint width, V vocabulary with blank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch

from kdcache.codec import make_codec
from kdcache.codec.records import PosteriorRecord
from kdcache.errors import ConfigError, TeacherOutputError
from kdcache.store import open_cache
from kdcache.stream.collate import collate_records
from kdcache.target import make_target, target_spec
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.teacher.transducer import LstmPredictor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from kdcache.batch import Batch, TargetBatch
    from kdcache.codec import RecordCodec
    from kdcache.codec.records import Record
    from kdcache.student import Student, StudentOutput
    from kdcache.target import Target
    from kdcache.train.settings import TrainSettings
    from kdcache.types import TargetSpec

_KEEPS_CODES = "codebooks"
"""The codec without which there are no entries to learn; it is used as it is."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """A target, and what stands in its codec's place.

    Attributes:
        name: of the target.
        target: what is kept.
        codec: packs nothing.
    """

    name: str
    target: Target
    codec: RecordCodec

    def of(self, output: TeacherOutput) -> Record:
        """What a reader of the cache would have, had nothing been lost in packing."""
        return self.codec.decode(self.target.reduce(output, self.codec).columns)


def reductions_of(settings: TrainSettings) -> list[Reduction]:
    """What the run's loss needs of the teacher.

    Raises:
        ConfigError: a target cannot be made, or the loss needs one that is not kept.
    """
    assert settings.live is not None
    specs = {spec.name: spec for spec in _specs(settings)}
    for name in settings.targets():
        if name not in specs:
            raise ConfigError(
                f"The loss needs the target {name!r}, and live.targets are "
                f"{', '.join(specs) or 'none'}; add it there."
            )
        if specs[name].settings.get("layer") is not None:
            raise ConfigError(
                f"The target {name!r} is of a single layer, which a live teacher does not keep; "
                "learn from the last one, or from a cache."
            )
    return [_reduction(specs[name]) for name in settings.targets()]


def teach(
    teacher: Student, output: StudentOutput, batch: Batch, reductions: Sequence[Reduction]
) -> Batch:
    """The batch with targets from what the teacher said of it; no gradient flows to the teacher.

    Args:
        teacher: who said it.
        output: of this batch.
        batch: its targets are replaced.
        reductions: what to keep.

    Raises:
        TeacherOutputError: NaN or infinity in what it said, or it says nothing of the kind; by the
            utterance's id.
    """
    with torch.no_grad():
        said = _outputs(teacher, output, batch)
        targets: dict[str, TargetBatch] = {
            one.name: collate_records([_of(one, utterance) for utterance in said])
            for one in reductions
        }
    device = batch.labels_BU.device
    return replace(batch, targets=targets).to(device)


def _of(reduction: Reduction, output: TeacherOutput) -> Record:
    """What is kept of an utterance, which an error names."""
    try:
        return reduction.of(output)
    except TeacherOutputError as error:
        raise TeacherOutputError(f"Utterance {output.utterance!r}: {error.message}") from error


def _specs(settings: TrainSettings) -> list[TargetSpec]:
    assert settings.live is not None
    if settings.live.targets:
        return [target_spec(given) for given in settings.live.targets]
    if settings.data.cache is not None:
        return list(open_cache(settings.data.cache).spec.targets)
    return [target_spec(_default(name, settings)) for name in settings.targets()]


def _default(name: str, settings: TrainSettings) -> dict[str, Any]:
    """A temperature needs all classes of a frame."""
    dense = name == "encoder_logits" and settings.loss.encoder_temperature != 1
    return {"kind": name, **({"top_k": "all"} if dense else {})}


def _reduction(spec: TargetSpec) -> Reduction:
    codec = make_codec(spec.record, spec.codec)
    if spec.codec.get("name") != _KEEPS_CODES:
        codec = cast("RecordCodec", _Unpacked(getattr(codec, "tail", None)))
    return Reduction(spec.name, make_target(spec), codec)


class _Unpacked:
    """Stands where a codec would, and gives back what it is given.

    Args:
        tail: the model of the rest that the codec has, if any.
    """

    def __init__(self, tail: Any) -> None:
        self.tail = tail
        self._record: Record | None = None

    def encode(self, record: Record) -> dict[str, Any]:
        """Nothing is packed."""
        if isinstance(record, PosteriorRecord):
            record = replace(record, tail=self.tail)
        self._record = record
        return {}

    def decode(self, columns: Any) -> Record:
        """What was given last."""
        assert self._record is not None
        return self._record


def _outputs(teacher: Student, output: StudentOutput, batch: Batch) -> list[TeacherOutput]:
    """Utterance by utterance, unpadded, as an adapter would give it."""
    frames, labels = output.frames_B.tolist(), batch.label_lengths_B.tolist()
    return [
        _output(teacher, output, row, batch.ids[row], frames[row], batch.labels_BU[row, :length])
        for row, length in enumerate(labels)
    ]


def _output(
    teacher: Student, output: StudentOutput, row: int, name: str, frames: int, labels_U: Tensor
) -> TeacherOutput:
    columns = len(labels_U) + 1
    logits, spelt = output.frame_logits(), output.attention_logits_BUV
    return TeacherOutput(
        frames=frames,
        tokens=tuple(labels_U.tolist()),
        hidden_TD=output.hidden_BTD[row, :frames],
        frame_logits_TV=None if logits is None else logits[row, :frames],
        lattice=_lattice(teacher, output, row, frames, columns),
        token_logits_UV=None if spelt is None else spelt[row, :columns],
        end=teacher.blank,
        utterance=name,
        blank=teacher.blank,
    )


def _lattice(
    teacher: Student, output: StudentOutput, row: int, frames: int, columns: int
) -> LatticeLogits | None:
    joint = output.joint
    if output.encoder_BTJ is None or output.decoder_BUJ is None or joint is None:
        return None
    network: Any = teacher.network
    return LatticeLogits(
        encoder_TJ=output.encoder_BTJ[row, :frames],
        decoder_UJ=output.decoder_BUJ[row, :columns],
        joint=lambda encoder, decoder: joint(decoder, encoder),
        blank=teacher.blank,
        predictor=LstmPredictor(network.decoder, teacher.blank),
    )
