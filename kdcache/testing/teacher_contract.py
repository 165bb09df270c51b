"""What every teacher must keep to: a suite that a third party runs on its own.

    class TestMyTeacher(TeacherContract):
        @pytest.fixture(scope="class")
        def teacher(self, tmp_path_factory):
            return load_teacher("models/mine")

Inputs are synthesised from a seed. Tolerances and lengths are class attributes, to be set
where a teacher needs others.

Shapes: T encoder frames, U labels, V vocabulary with blank, D hidden size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from kdcache.errors import AudioError, TranscriptError, UtteranceError
from kdcache.teacher.protocol import Teacher
from kdcache.types import TeacherKind, TeacherSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.teacher.protocol import TeacherOutput

TARGETS_OF_KIND = {
    TeacherKind.TRANSDUCER: "lattice",
    TeacherKind.CTC: "encoder_logits",
    TeacherKind.ATTENTION: "decoder_logits",
}
"""The target that makes a teacher one of its kind."""


def synthetic_utterances(
    teacher: Teacher, seconds: Sequence[float], labels: Sequence[int], seed: int = 0
) -> tuple[list[np.ndarray], list[tuple[int, ...]]]:
    """Audio (noise that swells and fades) and tokens for a teacher.

    Args:
        teacher: gives sample rate and classes.
        seconds: length of each utterance.
        labels: U of each utterance.
        seed: of everything.
    """
    spec, rng = teacher.spec, np.random.default_rng(seed)
    audio = []
    for length in seconds:
        samples = rng.normal(0.0, 0.1, int(length * spec.sample_rate))
        swell = np.sin(np.linspace(0.0, 9.0, len(samples))) ** 2
        audio.append((samples * swell).astype(np.float32))
    classes = min(teacher.tokenizer.vocab_size, spec.vocab_size)
    ids = [i for i in range(classes) if i != spec.blank_id]
    return audio, [tuple(int(i) for i in rng.choice(ids, count)) for count in labels]


def output_tensors(output: TeacherOutput) -> dict[str, torch.Tensor]:
    """Everything that an output says, as tensors by name, the lattice multiplied out."""
    parts = {
        "hidden": output.hidden_TD,
        "encoder_logits": output.frame_logits_TV,
        "decoder_logits": output.token_logits_UV,
        "features": output.features_FM,
        "lattice": output.lattice.rows(0, output.frames) if output.lattice else None,
    }
    return {name: tensor for name, tensor in parts.items() if tensor is not None}


class TeacherContract:
    """Subclass it and give a fixture ``teacher``."""

    seconds: ClassVar[tuple[float, ...]] = (0.5, 0.2, 0.7)
    labels: ClassVar[tuple[int, ...]] = (4, 1, 7)
    tolerance: ClassVar[float] = 1e-4
    """Largest difference between an utterance alone and in a batch."""

    def outputs(self, teacher: Teacher) -> list[TeacherOutput]:
        """One padded batch of utterances of several lengths."""
        return teacher.forward(*synthetic_utterances(teacher, self.seconds, self.labels))

    def test_is_a_teacher(self, teacher: Teacher) -> None:
        """It has what the protocol names."""
        assert isinstance(teacher, Teacher)

    def test_spec_is_sound(self, teacher: Teacher) -> None:
        """Its spec holds together and survives JSON."""
        spec = teacher.spec
        assert TeacherSpec.from_dict(spec.to_dict()) == spec
        assert spec.targets == tuple(sorted(set(spec.targets)))
        assert TARGETS_OF_KIND[spec.kind] in spec.targets
        assert spec.frame_shift > 0
        assert spec.sample_rate > 0
        assert spec.blank_id is None or 0 <= spec.blank_id < spec.vocab_size
        assert (spec.blank_id is None) == (spec.kind is TeacherKind.ATTENTION)
        assert spec.tokenizer == teacher.tokenizer.fingerprint
        assert len(spec.fingerprint) == 64

    def test_gives_what_its_spec_promises(self, teacher: Teacher) -> None:
        """Every promised target is there, and has the promised shape."""
        spec = teacher.spec
        _, tokens = synthetic_utterances(teacher, self.seconds, self.labels)
        for output, labels in zip(self.outputs(teacher), tokens, strict=True):
            shapes = {
                "lattice": (output.frames, len(labels) + 1, spec.vocab_size),
                "encoder_logits": (output.frames, spec.vocab_size),
                "decoder_logits": (len(labels) + 1, spec.vocab_size),
                "hidden": (output.frames, spec.hidden_size),
            }
            found = output_tensors(output)
            assert set(spec.targets) <= set(found)
            assert output.tokens == labels
            for name in found.keys() & shapes.keys():
                assert tuple(found[name].shape) == shapes[name], name

    def test_some_nodes_as_among_all(self, teacher: Teacher) -> None:
        """The joint network takes a window of states in each frame, too."""
        for output in self.outputs(teacher):
            if output.lattice is not None:
                frames, columns = output.lattice.shape
                start_T = torch.arange(frames).clamp(max=max(columns - 2, 0))
                columns_TS = start_T[:, None] + torch.arange(min(columns, 2))
                expected = output.lattice.rows(0, frames)[torch.arange(frames)[:, None], columns_TS]
                found = output.lattice.windows(0, frames, columns_TS)
                assert found.shape == expected.shape
                assert (found - expected).abs().max().item() <= self.tolerance

    def test_frames_follow_the_frame_shift(self, teacher: Teacher) -> None:
        """T is the duration over the frame shift, but for the edges."""
        for output, length in zip(self.outputs(teacher), self.seconds, strict=True):
            assert abs(output.frames - length / teacher.spec.frame_shift) <= 2

    def test_numbers_are_finite_and_without_gradient(self, teacher: Teacher) -> None:
        """No NaN reaches a cache by accident, and no graph is kept."""
        for output in self.outputs(teacher):
            for name, tensor in output_tensors(output).items():
                assert bool(tensor.isfinite().all()), name
                assert not tensor.requires_grad, name

    def test_alone_as_in_a_batch(self, teacher: Teacher) -> None:
        """Padding and company change nothing beyond round-off."""
        audio, tokens = synthetic_utterances(teacher, self.seconds, self.labels)
        for row, together in enumerate(teacher.forward(audio, tokens)):
            (alone,) = teacher.forward([audio[row]], [tokens[row]])
            self._same(alone, together, self.tolerance)

    def test_order_is_kept(self, teacher: Teacher) -> None:
        """Outputs come in the order of the utterances."""
        audio, tokens = synthetic_utterances(teacher, self.seconds, self.labels)
        backwards = teacher.forward(audio[::-1], tokens[::-1])[::-1]
        for output, other in zip(self.outputs(teacher), backwards, strict=True):
            self._same(output, other, self.tolerance)

    def test_repeats_itself(self, teacher: Teacher) -> None:
        """The same batch gives the same bits."""
        for output, again in zip(self.outputs(teacher), self.outputs(teacher), strict=True):
            self._same(output, again, 0.0)

    def test_utterances_without_labels(self, teacher: Teacher) -> None:
        """U = 0 is an utterance like any other."""
        audio, _ = synthetic_utterances(teacher, self.seconds[:2], (0, 0))
        for output in teacher.forward(audio, [(), ()]):
            assert output.tokens == ()
            assert math.prod(output.hidden_TD.shape) > 0

    def test_empty_batch(self, teacher: Teacher) -> None:
        """Nothing in, nothing out."""
        assert teacher.forward([], []) == []

    def test_refuses_unusable_audio(self, teacher: Teacher) -> None:
        """No samples, NaN, or two channels stop the batch with an error of the utterance."""
        (good,), (tokens,) = synthetic_utterances(teacher, self.seconds[:1], (1,))
        broken = good.copy()
        broken[10] = np.nan
        for bad in (good[:0], broken, np.stack([good, good])):
            self._refuses(AudioError, teacher, [good, bad], [tokens, tokens])

    def test_refuses_tokens_that_are_no_labels(self, teacher: Teacher) -> None:
        """Ids out of range, and blank."""
        spec = teacher.spec
        (audio,), _ = synthetic_utterances(teacher, self.seconds[:1], (1,))
        blank = () if spec.blank_id is None else (spec.blank_id,)
        for bad in (-1, spec.vocab_size, *blank):
            self._refuses(TranscriptError, teacher, [audio], [(bad,)])

    def _refuses(
        self,
        error: type[UtteranceError],
        teacher: Teacher,
        audio: list[np.ndarray],
        tokens: list[tuple[int, ...]],
    ) -> None:
        # Not pytest.raises: the suite is part of the package, which does not need pytest.
        try:
            teacher.forward(audio, tokens)
        except error:
            return
        raise AssertionError(f"{error.__name__} was expected")

    def _same(self, one: TeacherOutput, other: TeacherOutput, tolerance: float) -> None:
        assert (one.frames, one.tokens) == (other.frames, other.tokens)
        found, expected = output_tensors(one), output_tensors(other)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            difference = (tensor.float() - expected[name].float()).abs().max().item()
            assert difference <= tolerance, f"{name} differs by {difference}"
