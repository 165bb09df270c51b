"""A teacher's own labels stand in for transcripts that are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.codec import make_codec
from kdcache.errors import TeacherError
from kdcache.score import greedy_decode
from kdcache.target import make_target, target_spec
from kdcache.teacher import greedy, load_teacher
from kdcache.teacher.greedy import greedy_ctc, greedy_transducer
from kdcache.testing.teacher_contract import TeacherContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcache.teacher import LatticeLogits, Teacher

ADAPTER = "kdcache.teacher.pseudo:PseudoLabels"


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.1, int(16000 * seconds)).astype(np.float32)


@pytest.fixture(scope="module")
def pseudo(saved: dict[str, Path]) -> Teacher:
    return load_teacher(saved["transducer"], adapter=ADAPTER)


def lattice_of(teacher: Any, seed: int) -> LatticeLogits:
    (output,) = teacher.forward([noise(seed)], [()])
    lattice: LatticeLogits = output.lattice
    return lattice


def by_one_frame(lattice: LatticeLogits, max_symbols: int) -> tuple[int, ...]:
    """The search as it is defined: frame by frame, one question each."""
    assert lattice.predictor is not None
    output, state = lattice.predictor.start()
    labels: list[int] = []
    for encoder_J in lattice.encoder_TJ:
        for _ in range(max_symbols):
            label = int(lattice.joint(encoder_J[None, None], output[None]).argmax())
            if label == lattice.blank:
                break
            labels.append(label)
            output, state = lattice.predictor.step(torch.tensor([label]), state)
    return tuple(labels)


class TestContract(TeacherContract):
    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, saved: dict[str, Path]) -> Teacher:
        return load_teacher(saved["transducer"], adapter=ADAPTER)

    def test_utterances_without_labels(self, teacher: Teacher) -> None:
        """They get some."""
        (output,) = teacher.forward([noise(0)], [()])
        assert output.tokens


@pytest.mark.parametrize("max_symbols", [1, 2, 10])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("ahead", [3, 16, 1000])
def test_looking_ahead_changes_nothing(
    loaded: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    max_symbols: int,
    seed: int,
    ahead: int,
) -> None:
    monkeypatch.setattr(greedy, "AHEAD", ahead)
    lattice = lattice_of(loaded("transducer"), seed)
    assert lattice.predictor is not None
    labels, _ = greedy_transducer(lattice, lattice.predictor, max_symbols)
    assert labels == by_one_frame(lattice, max_symbols)
    assert len(labels) <= max_symbols * lattice.shape[0]


def test_it_asks_once_for_many_frames_that_emit_nothing() -> None:
    class Silent:
        asked = 0
        encoder_TJ = torch.zeros(100, 4)
        blank = 2

        def joint(self, encoder: torch.Tensor, decoder: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            return torch.tensor([0.0, 0.0, 1.0]).expand(len(encoder), 1, 3)

    class Start:
        def start(self) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            return torch.zeros(1, 4), ()

    lattice: Any = Silent()
    start: Any = Start()
    labels, states = greedy_transducer(lattice, start)
    assert (labels, tuple(states.shape), lattice.asked) == ((), (1, 4), 7)


def test_the_labels_are_those_that_scoring_would_find(
    pseudo: Teacher, loaded: Callable[[str], Any]
) -> None:
    model = loaded("transducer").model
    for seed in range(3):
        (output,) = pseudo.forward([noise(seed)], [()])
        assert output.lattice is not None
        (labels,) = greedy_decode(
            model, output.lattice.encoder_TJ[None], torch.tensor([output.frames])
        )
        assert output.tokens == tuple(labels)


def test_the_lattice_is_the_one_of_these_labels(
    pseudo: Teacher, loaded: Callable[[str], Any]
) -> None:
    (own,) = pseudo.forward([noise(1)], [()])
    (given,) = loaded("transducer").forward([noise(1)], [own.tokens])
    assert own.lattice is not None
    assert own.lattice.shape == given.lattice.shape == (own.frames, len(own.tokens) + 1)
    torch.testing.assert_close(own.lattice.rows(0, own.frames), given.lattice.rows(0, given.frames))


def test_transcripts_stay_what_they_are(pseudo: Teacher, loaded: Callable[[str], Any]) -> None:
    audio = [noise(1), noise(2, 0.5)]
    labelled, unlabelled = pseudo.forward(audio, [(3, 1, 4), ()])
    given, _ = loaded("transducer").forward(audio, [(3, 1, 4), ()])
    assert labelled.tokens == (3, 1, 4)
    assert unlabelled.tokens not in ((), (3, 1, 4))
    assert labelled.lattice is not None
    assert torch.equal(labelled.lattice.decoder_UJ, given.lattice.decoder_UJ)


@pytest.mark.parametrize("kind", ["lattice", "full_sum", "hidden"])
def test_targets_take_what_it_says(pseudo: Teacher, kind: str) -> None:
    spec = target_spec(kind)
    codec = make_codec(spec.record, spec.codec)
    target = make_target(spec)
    target.check(pseudo.spec)
    (output,) = pseudo.forward([noise(3)], [()])
    output = replace(output, blank=pseudo.spec.blank_id)
    assert target.reduce(output, codec).columns


@pytest.mark.parametrize("name", ["ctc", "wav2vec2"])
def test_ctc_writes_the_best_class_of_each_frame(saved: dict[str, Path], name: str) -> None:
    teacher = load_teacher(saved[name], adapter=ADAPTER)
    (output,) = teacher.forward([noise(5)], [()])
    assert output.frame_logits_TV is not None
    assert teacher.spec.blank_id is not None
    assert output.tokens == greedy_ctc(output.frame_logits_TV, teacher.spec.blank_id)


def test_ctc_drops_repetitions_and_then_blanks() -> None:
    best = torch.tensor([0, 1, 1, 0, 1, 2, 2, 0, 0, 3])
    logits_TV = torch.nn.functional.one_hot(best, 4).float()
    assert greedy_ctc(logits_TV, 0) == (1, 1, 2, 3)
    assert greedy_ctc(logits_TV, 3) == (0, 1, 0, 1, 2, 0)


def test_its_caches_are_kept_apart(pseudo: Teacher, loaded: Callable[[str], Any]) -> None:
    plain = loaded("transducer").spec
    assert pseudo.spec.fingerprint != plain.fingerprint
    assert replace(pseudo.spec, fingerprint=plain.fingerprint) == plain


def test_it_refuses_a_teacher_that_it_cannot_search(saved: dict[str, Path]) -> None:
    with pytest.raises(TeacherError, match="with transducers and CTC only"):
        load_teacher(saved["whisper"], adapter=ADAPTER)


def test_it_says_what_an_adapter_lacks(pseudo: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = pseudo._teacher  # type: ignore[attr-defined]
    forward = inner.forward

    def without(*given: Any) -> Any:
        return [
            replace(output, lattice=replace(output.lattice, predictor=None))
            for output in forward(*given)
        ]

    monkeypatch.setattr(inner, "forward", without)
    with pytest.raises(TeacherError, match="offers no prediction network"):
        pseudo.forward([noise(0)], [()])
    assert pseudo.forward([noise(0)], [(1,)])
