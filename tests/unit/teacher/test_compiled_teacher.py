"""A teacher whose layers are compiled: the same answers under a fingerprint of its own.

All but the slow test have the compiler's back end replaced by one that runs what was traced.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.errors import ConfigError
from kdcache.teacher import load_teacher
from kdcache.teacher.compiled import CompiledTeacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PSEUDO = "kdcache.teacher.pseudo:PseudoLabels"
RNG = np.random.default_rng(3)
AUDIO = [RNG.normal(0, 0.1, length).astype(np.float32) for length in (16000, 12000, 9000)]
TOKENS = [(1, 2), (3,), (2, 2, 1)]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts another back end in the compiler's place."""
    compile_module = torch.nn.Module.compile

    def use(chosen: Any) -> None:
        torch._dynamo.reset()
        monkeypatch.setattr(
            torch.nn.Module,
            "compile",
            lambda self, **settings: compile_module(self, backend=chosen, **settings),
        )

    return use


def largest_difference(one: Any, other: Any, batch: slice) -> float:
    answers = zip(
        one.forward(AUDIO[batch], TOKENS[batch]),
        other.forward(AUDIO[batch], TOKENS[batch]),
        strict=True,
    )
    return max(float((a.hidden_TD - b.hidden_TD).abs().max()) for a, b in answers)


@pytest.mark.parametrize("name", ["transducer", "ctc", "wav2vec2", "whisper"])
def test_it_is_another_teacher_to_a_cache(saved: dict[str, Path], name: str) -> None:
    eager, compiled = load_teacher(saved[name]), load_teacher(saved[name], compiled=True)
    assert eager.spec.fingerprint != compiled.spec.fingerprint
    assert replace(compiled.spec, fingerprint=eager.spec.fingerprint) == eager.spec
    assert compiled.tokenizer.fingerprint == eager.tokenizer.fingerprint
    assert load_teacher(saved[name], compiled=True).spec == compiled.spec


def test_pseudo_labels_are_compiled_as_well(saved: dict[str, Path]) -> None:
    eager, compiled = (
        load_teacher(saved["transducer"], adapter=PSEUDO, compiled=wanted)
        for wanted in (False, True)
    )
    assert compiled.spec.fingerprint != eager.spec.fingerprint
    assert compiled.labels_itself  # type: ignore[attr-defined]
    assert not load_teacher(saved["ctc"], compiled=True).labels_itself  # type: ignore[attr-defined]


def test_its_layers_are_run_through_the_compiler(
    saved: dict[str, Path], backend: Callable[[Any], None]
) -> None:
    graphs = []

    def traced(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    backend(traced)
    eager = load_teacher(saved["transducer"])
    compiled = load_teacher(saved["transducer"], compiled=True)
    assert graphs == [], "it was compiled before it was needed"
    for batch in (slice(0, 3), slice(1, 3)):
        assert largest_difference(eager, compiled, batch) < 1e-5
    assert len(graphs) == 1, "another shape was compiled anew"


def test_where_it_cannot_be_compiled_one_sentence_says_so(
    saved: dict[str, Path], backend: Callable[[Any], None]
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no\ncompiler")

    backend(broken)
    teacher = load_teacher(saved["ctc"], compiled=True)
    with pytest.raises(ConfigError, match="no compiler") as caught:
        teacher.forward(AUDIO[:1], TOKENS[:1])
    assert "leave compile out" in caught.value.message


def test_a_python_that_cannot_is_told(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("torch.compile is not supported on Python 3.99")

    monkeypatch.setattr(torch.nn.Module, "compile", refuse)
    with pytest.raises(ConfigError, match=r"Python 3\.99"):
        load_teacher(saved["ctc"], compiled=True)


def test_an_adapter_that_does_not_offer_it_is_refused(loaded: Callable[[str], Any]) -> None:
    class Plain:
        spec = loaded("ctc").spec
        tokenizer = loaded("ctc").tokenizer
        forward = loaded("ctc").forward

    with pytest.raises(ConfigError, match=r"Plain has no compile_layers\(\)"):
        CompiledTeacher(Plain())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transducer", "wav2vec2", "whisper"])
def test_compiled_kernels_give_the_same_answers(saved: dict[str, Path], name: str) -> None:
    torch._dynamo.reset()
    eager, compiled = load_teacher(saved[name]), load_teacher(saved[name], compiled=True)
    for batch in (slice(0, 3), slice(0, 2), slice(0, 1), slice(2, 3)):
        assert largest_difference(eager, compiled, batch) < 1e-3
