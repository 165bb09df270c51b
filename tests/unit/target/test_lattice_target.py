from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdcache.codec import make_codec
from kdcache.codec.records import BLANK, LABEL, LatticeRecord
from kdcache.errors import ConfigError, TeacherOutputError, UnsupportedTargetError
from kdcache.target import Target, make_target, target_spec
from kdcache.target.lattice import LatticeTarget, collapse_lattice
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from tests.unit.target.conftest import lattice_output, table_lattice

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.types import TeacherSpec

INF = float("inf")


def dense(logits_TUV: Tensor, tokens: tuple[int, ...], blank: int, top_k: int) -> LatticeRecord:
    """The definition, node by node, in float64."""
    frames, columns, vocabulary = logits_TUV.shape
    logp = logits_TUV.double().log_softmax(-1).numpy()
    out = np.full((frames, columns, 3 + top_k), -np.inf)
    ids = np.full((frames, columns, top_k), -1)
    for t in range(frames):
        for u in range(columns):
            node = logp[t, u]
            taken = {blank} | ({tokens[u]} if u < len(tokens) else set())
            others = sorted(
                (i for i in range(vocabulary) if i not in taken), key=lambda i: -node[i]
            )
            more, rest = others[:top_k], others[top_k:]
            out[t, u, BLANK] = node[blank]
            if u < len(tokens):
                out[t, u, LABEL] = node[tokens[u]]
            out[t, u, 2 : 2 + len(more)] = node[more]
            ids[t, u, : len(more)] = more
            if rest:
                out[t, u, -1] = np.log(np.exp(node[rest]).sum())
    return LatticeRecord(out, ids)


@pytest.mark.parametrize(
    ("frames", "tokens", "vocabulary", "blank", "top_k"),
    [
        (5, (2, 0, 3), 7, 6, 0),
        (5, (2, 0, 3), 7, 6, 3),
        (4, (2, 2, 3, 1), 9, 0, 2),
        (3, (1, 5), 8, 4, 8),
        (1, (), 6, 5, 2),
        (1, (1,), 3, 0, 4),
        (6, (), 4, 3, 0),
        (2, (0,), 2, 1, 1),
    ],
)
def test_against_the_definition(
    normal: Callable[..., Tensor],
    frames: int,
    tokens: tuple[int, ...],
    vocabulary: int,
    blank: int,
    top_k: int,
) -> None:
    logits = normal(frames, len(tokens) + 1, vocabulary)
    expected = dense(logits, tokens, blank, top_k)
    record, *_ = collapse_lattice(table_lattice(logits, blank), tokens, top_k)
    np.testing.assert_allclose(record.logp_TSC, expected.logp_TSC, atol=1e-5)
    np.testing.assert_array_equal(record.ids_TSK, expected.ids_TSK)
    assert record.logp_TSC.dtype == np.float32
    assert record.ids_TSK.dtype == np.int32


@settings(max_examples=40)
@given(
    frames=st.integers(1, 5),
    labels=st.integers(0, 4),
    vocabulary=st.integers(2, 12),
    top_k=st.integers(0, 13),
    seed=st.integers(0, 10_000),
    data=st.data(),
)
def test_rows_are_distributions(
    frames: int, labels: int, vocabulary: int, top_k: int, seed: int, data: st.DataObject
) -> None:
    blank = data.draw(st.integers(0, vocabulary - 1))
    ids = [i for i in range(vocabulary) if i != blank]
    tokens = tuple(data.draw(st.lists(st.sampled_from(ids), min_size=labels, max_size=labels)))
    generator = torch.Generator().manual_seed(seed)
    logits = 6.0 * torch.randn((frames, labels + 1, vocabulary), generator=generator)
    record, spread, _ = collapse_lattice(table_lattice(logits, blank), tokens, top_k)
    np.testing.assert_allclose(np.exp(record.logp_TSC.astype(np.float64)).sum(-1), 1.0, atol=1e-5)
    assert (record.logp_TSC <= 0).all()
    assert np.isneginf(record.logp_TSC[:, -1, LABEL]).all()
    more_TSK = record.logp_TSC[..., 2:-1]
    assert (more_TSK[..., 1:] <= more_TSK[..., :-1]).all()
    assert not np.isin(record.ids_TSK, [blank]).any()
    assert not (record.ids_TSK[:, :-1] == np.array(tokens, int)[None, :, None]).any()
    assert np.array_equal(record.ids_TSK == -1, np.isneginf(record.logp_TSC[..., 2:-1]))
    assert (spread >= 0).all()


@pytest.mark.parametrize("budget", [1, 30, 97, 200, 2**24])
def test_chunks_change_nothing(normal: Callable[..., Tensor], budget: int) -> None:
    logits, tokens = normal(13, 4, 10), (1, 2, 3)
    whole, whole_spread, _ = collapse_lattice(table_lattice(logits, 9), tokens, 2)
    parts, spread, _ = collapse_lattice(table_lattice(logits, 9), tokens, 2, budget=budget)
    np.testing.assert_array_equal(parts.logp_TSC, whole.logp_TSC)
    np.testing.assert_array_equal(parts.ids_TSK, whole.ids_TSK)
    np.testing.assert_array_equal(spread, whole_spread)


@pytest.mark.parametrize(("vocabulary", "width"), [(50, 4), (5, 40)])
def test_no_chunk_is_larger_than_the_budget(vocabulary: int, width: int) -> None:
    seen: list[int] = []
    projection = torch.ones(width, vocabulary)

    def joint(encoder: Tensor, decoder: Tensor) -> Tensor:
        both = encoder + decoder
        seen.append(both.shape[0] * both.shape[1] * max(vocabulary, width))
        return both @ projection

    lattice = LatticeLogits(torch.zeros(100, width), torch.zeros(3, width), joint, 0)
    collapse_lattice(lattice, (1, 2), 0, budget=2000)
    assert max(seen) <= 2000
    assert sum(seen) == 100 * 3 * max(vocabulary, width)
    assert len(seen) < 12


def brute_force_full(
    logits_TUV: Tensor, tokens: tuple[int, ...], blank: int, decoded: LatticeRecord
) -> np.ndarray:
    """KL over the whole vocabulary, the decoded rest spread evenly, node by node."""
    frames, columns, vocabulary = logits_TUV.shape
    logp = logits_TUV.double().log_softmax(-1).numpy()
    kl = np.zeros((frames, columns))
    for t in range(frames):
        for u in range(columns):
            node = decoded.logp_TSC[t, u].astype(np.float64)
            named = {blank: node[BLANK]}
            if u < len(tokens):
                named[tokens[u]] = node[LABEL]
            named |= {int(i): node[2 + k] for k, i in enumerate(decoded.ids_TSK[t, u]) if i >= 0}
            left = vocabulary - len(named)
            q = [named.get(i, node[-1] - math.log(max(left, 1))) for i in range(vocabulary)]
            kl[t, u] = sum(math.exp(p) * (p - q[i]) for i, p in enumerate(logp[t, u]))
    return kl


@pytest.mark.parametrize("codec", ["log8", "fp16"])
@pytest.mark.parametrize("top_k", [0, 3, 20])
def test_fidelity_against_brute_force(
    normal: Callable[..., Tensor], codec: str, top_k: int
) -> None:
    # Posteriors wide enough that no class falls below what 8 bits hold.
    logits, tokens, blank = 0.5 * normal(6, 4, 15, seed=2), (3, 1, 4), 7
    packer = make_codec("lattice", {"name": codec})
    reduced = LatticeTarget(top_k=top_k).reduce(lattice_output(logits, tokens, blank), packer)
    decoded = packer.decode(reduced.columns)
    assert isinstance(decoded, LatticeRecord)
    expected = dense(logits, tokens, blank, top_k).logp_TSC
    with np.errstate(invalid="ignore"):
        terms = np.exp(expected) * (expected - decoded.logp_TSC)
    kept = np.where(np.isneginf(expected), 0.0, terms).sum(-1)
    full = brute_force_full(logits, tokens, blank, decoded)
    assert reduced.fidelity == pytest.approx(
        {
            "kl_mean": kept.mean(),
            "kl_max": kept.max(),
            "kl_full_mean": full.mean(),
            "kl_full_max": full.max(),
        },
        abs=1e-6,
    )
    assert reduced.fidelity["kl_max"] > 0
    assert (reduced.fidelity["kl_full_mean"] > 1e-3) == (top_k < 13)


def test_columns_are_the_codecs(normal: Callable[..., Tensor]) -> None:
    logits, tokens = normal(4, 3, 9), (1, 2)
    codec = make_codec("lattice", {"name": "log8"})
    reduced = LatticeTarget(top_k=2).reduce(lattice_output(logits, tokens, 8), codec)
    record, *_ = collapse_lattice(table_lattice(logits, 8), tokens, 2)
    for name, expected in codec.encode(record).items():
        np.testing.assert_array_equal(reduced.columns[name], expected)


@pytest.mark.parametrize("bad", [float("nan"), INF])
def test_nan_and_infinity(normal: Callable[..., Tensor], bad: float) -> None:
    logits = normal(5, 2, 6)
    logits[4, 1, 2] = bad
    codec = make_codec("lattice", {"name": "log8"})
    with pytest.raises(TeacherOutputError, match="NaN or infinite logits"):
        LatticeTarget().reduce(lattice_output(logits, (1,), 5), codec)


@pytest.mark.parametrize(
    ("frames", "tokens", "message"),
    [
        (5, (1, 2), "gave 2 columns of the lattice, expected 3"),
        (4, (1,), "gave 5 frames of the lattice, expected 4"),
        (5, (7,), "tokens are no labels of its lattice of 6 classes"),
        (5, (5,), "tokens are no labels of its lattice of 6 classes"),
    ],
)
def test_shapes_that_cannot_be(
    normal: Callable[..., Tensor], frames: int, tokens: tuple[int, ...], message: str
) -> None:
    output = TeacherOutput(
        frames=frames,
        tokens=tokens,
        hidden_TD=torch.zeros(frames, 1),
        lattice=table_lattice(normal(5, 2, 6), 5),
    )
    with pytest.raises(TeacherOutputError, match=message):
        LatticeTarget().reduce(output, make_codec("lattice", {"name": "log8"}))


def test_no_frames() -> None:
    with pytest.raises(TeacherOutputError, match="gave 0 frames of the lattice"):
        collapse_lattice(table_lattice(torch.zeros(0, 1, 4), 3), (), 0)


def test_no_lattice_although_promised() -> None:
    output = TeacherOutput(frames=2, tokens=(), hidden_TD=torch.zeros(2, 1))
    with pytest.raises(TeacherOutputError, match="lacks what target 'lattice' is made of"):
        LatticeTarget().reduce(output, make_codec("lattice", {"name": "log8"}))


class _Shuffler:
    """A codec that loses ids."""

    def __init__(self) -> None:
        self._inner = make_codec("lattice", {"name": "fp16"})

    def encode(self, record: Any) -> dict[str, np.ndarray]:
        return self._inner.encode(record)

    def decode(self, columns: dict[str, np.ndarray]) -> LatticeRecord:
        record = self._inner.decode(columns)
        assert isinstance(record, LatticeRecord)
        return LatticeRecord(record.logp_TSC, record.ids_TSK[..., ::-1])


def test_a_codec_that_changes_ids(normal: Callable[..., Tensor]) -> None:
    output = lattice_output(normal(3, 2, 8), (1,), 7)
    with pytest.raises(ConfigError, match="did not give class ids back unchanged"):
        LatticeTarget(top_k=2).reduce(output, _Shuffler())  # type: ignore[arg-type]


def test_half_precision_logits(normal: Callable[..., Tensor]) -> None:
    logits = normal(5, 3, 40).bfloat16()
    record, *_ = collapse_lattice(table_lattice(logits, 39), (1, 2), 4)
    expected = dense(logits.float(), (1, 2), 39, 4)
    np.testing.assert_allclose(record.logp_TSC, expected.logp_TSC, atol=1e-5)
    np.testing.assert_array_equal(record.ids_TSK, expected.ids_TSK)


def test_an_utterance_of_many_labels(normal: Callable[..., Tensor]) -> None:
    tokens = tuple(i % 30 for i in range(400))
    logits = normal(3, 401, 31)
    record, *_ = collapse_lattice(table_lattice(logits, 30), tokens, 1)
    np.testing.assert_allclose(record.logp_TSC, dense(logits, tokens, 30, 1).logp_TSC, atol=1e-5)


def test_only_a_transducer_has_one(spec: Callable[..., TeacherSpec]) -> None:
    LatticeTarget().check(spec("lattice", "hidden"))
    with pytest.raises(
        UnsupportedTargetError,
        match=r"Teacher 't' \(ctc\) cannot give target 'lattice'; it gives encoder_logits, hidden",
    ):
        LatticeTarget().check(spec("hidden", "encoder_logits", kind="ctc"))


@pytest.mark.parametrize("top_k", [-1, 1.5, "3", True, None])
def test_top_k_out_of_range(top_k: Any) -> None:
    with pytest.raises(ConfigError, match="expected an integer of at least 0"):
        LatticeTarget(top_k=top_k)


def test_is_a_target() -> None:
    target = make_target(target_spec("lattice"))
    assert isinstance(target, Target)
    assert target == LatticeTarget()
