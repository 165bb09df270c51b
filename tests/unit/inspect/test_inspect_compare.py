"""Two caches side by side: what is compared, against dense mathematics, and what is refused.

Shapes: T frames, U labels, V vocabulary, S columns of a window, N rows.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kdcache.codec import LatticeRecord, PosteriorRecord, VectorRecord
from kdcache.errors import DamagedCacheError, SpecMismatchError
from kdcache.inspect.compare import NAMED, compare
from kdcache.inspect.compare_text import comparison_lines
from kdcache.inspect.divergence import divergence, likeliest, spread
from kdcache.inspect.nodes import shared_nodes
from kdcache.inspect.tally import Tally
from kdcache.store import CacheSpec, PackedUtterance, create_or_open, open_cache
from kdcache.testing.records import normalise
from kdcache.testing.samples import TOKENIZER_FILES, sample_spec, sample_utterance
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kdcache.store import Cache

V, BLANK, TOKENS = 100, 0, (7, 3, 7)
FP16 = {"name": "fp16"}


def target(name: str, record: str, codec: dict[str, Any] | None = None) -> TargetSpec:
    return TargetSpec(name, name, record, {}, codec or FP16)


LATTICE, CTC = target("lattice", "lattice"), target("encoder_logits", "posterior")
HIDDEN = target("hidden", "vector")


def cache_of(path: Path, targets: Sequence[TargetSpec], records: dict[str, list[Any]]) -> Cache:
    """A cache with these records of each utterance."""
    spec = CacheSpec(sample_spec().teacher, "0" * 64, tuple(targets)).normalised()
    writer = create_or_open(path, spec, "zarr", TOKENIZER_FILES)
    items = []
    for key, given in records.items():
        columns = {
            f"{t.name}.{name}": array
            for t, record in zip(targets, given, strict=True)
            for name, array in spec.codec(t.name).encode(record).items()
        }
        items.append(PackedUtterance(sample_utterance(key), 3.6, TOKENS, 5, columns, {}))
    writer.commit("u0", items, [], "0")
    return open_cache(path)


def dense_lattice(seed: int, frames: int = 5) -> np.ndarray:
    """Log-probabilities (T, U+1, V) of every class."""
    return normalise(np.random.default_rng(seed).normal(size=(frames, len(TOKENS) + 1, V)) * 2)


def collapse(
    dense_TUV: np.ndarray, kept: int, starts: list[int] | None = None, width: int = 4
) -> tuple[LatticeRecord, dict[tuple[int, int], np.ndarray]]:
    """A lattice record, node by node, and the distributions that it stands for, by node."""
    frames = len(dense_TUV)
    logp_TSC = np.full((frames, width, kept + 3), -np.inf, np.float32)
    ids_TSK = np.zeros((frames, width, kept), np.int32)
    stands = {}
    for t in range(frames):
        for s in range(width):
            u = s + (starts[t] if starts else 0)
            p_V = np.exp(dense_TUV[t, u].astype(np.float64))
            special = [BLANK, *([TOKENS[u]] if u < len(TOKENS) else [])]
            others = [c for c in np.argsort(-p_V).tolist() if c not in special][:kept]
            left = [c for c in range(V) if c not in {*special, *others}]
            logp_TSC[t, s, : len(special)] = np.log(p_V[special])
            logp_TSC[t, s, 2:-1], ids_TSK[t, s] = np.log(p_V[others]), others
            logp_TSC[t, s, -1] = np.log(p_V[left].sum())
            p_V[left] = p_V[left].mean()
            stands[t, u] = p_V
    starts_T = np.array(starts, np.int32) if starts else None
    return LatticeRecord(logp_TSC, ids_TSK, starts_T), stands


def kl(p_V: np.ndarray, q_V: np.ndarray) -> float:
    return float((p_V * np.log(p_V / q_V)).sum())


def posterior(seed: int, kept: int, rows: int = 6) -> PosteriorRecord:
    rng = np.random.default_rng(seed)
    logp_NV = normalise(rng.normal(size=(rows, V)) * 3)
    ids_NK = np.argsort(-logp_NV, axis=-1)[:, :kept].astype(np.int32)
    logp_NK = np.take_along_axis(logp_NV, ids_NK, -1)
    rest_N1 = np.log1p(-np.exp(logp_NK.astype(np.float64)).sum(-1, keepdims=True))
    return PosteriorRecord(np.concatenate([logp_NK, rest_N1], -1).astype(np.float32), ids_NK)


# lattices


@pytest.mark.parametrize(
    ("starts_a", "width_a", "starts_b", "width_b"),
    [
        (None, 4, None, 4),
        ([0, 0, 1, 2, 2], 2, None, 4),
        (None, 4, [0, 0, 1, 2, 2], 2),
        ([0, 0, 1, 2, 2], 2, [0, 1, 1, 1, 1], 3),
    ],
)
def test_lattices_are_compared_where_both_have_nodes(
    starts_a: list[int] | None, width_a: int, starts_b: list[int] | None, width_b: int
) -> None:
    a, of_a = collapse(dense_lattice(1), 2, starts_a, width_a)
    b, of_b = collapse(dense_lattice(2), 4, starts_b, width_b)
    nodes = sorted(of_a.keys() & of_b.keys())
    found_N = divergence(*shared_nodes(a, b, TOKENS, BLANK), V)
    expected = [kl(of_a[node], of_b[node]) for node in nodes]
    np.testing.assert_allclose(found_N, expected, rtol=1e-4)


def test_a_class_that_one_lattice_names_is_in_the_others_rest() -> None:
    dense_TUV = dense_lattice(3)
    a, of_a = collapse(dense_TUV, 0)
    b, of_b = collapse(dense_TUV, 5)
    found_N = divergence(*shared_nodes(a, b, TOKENS, BLANK), V)
    expected = [kl(of_a[node], of_b[node]) for node in sorted(of_a)]
    np.testing.assert_allclose(found_N, expected, rtol=1e-3, atol=1e-6)
    assert found_N.min() > 0


def test_the_figures_of_lattices_say_how_many_nodes_were_left_out(tmp_path: Path) -> None:
    whole, of_a = collapse(dense_lattice(1), 2)
    band, of_b = collapse(dense_lattice(2), 2, [0, 0, 1, 2, 2], 2)
    a = cache_of(tmp_path / "a", [LATTICE], {"x": [whole]})
    b = cache_of(tmp_path / "b", [LATTICE], {"x": [band]})
    (found,) = compare(a, b).targets
    assert (found.row, found.rows_a, found.rows_b, found.figures.rows) == ("node", 20, 10, 10)
    expected = [kl(of_a[node], of_b[node]) for node in of_b]
    assert found.figures.mean == pytest.approx(np.mean(expected), rel=0.02)
    assert found.figures.max == pytest.approx(np.max(expected), rel=0.02)
    differs = [np.argmax(of_a[node]) != np.argmax(of_b[node]) for node in of_b]
    assert found.figures.changed == sum(differs)
    text = "\n".join(comparison_lines(compare(a, b)))
    assert "10 nodes of both, of 20 in A and 10 in B" in text


# posteriors and vectors


def test_posteriors_are_compared_over_all_classes(tmp_path: Path) -> None:
    a = cache_of(tmp_path / "a", [CTC], {k: [posterior(i, 4)] for i, k in enumerate("xyz")})
    b = cache_of(tmp_path / "b", [CTC], {k: [posterior(i + 1, 7)] for i, k in enumerate("xyz")})
    (found,) = compare(a, b).targets
    expected = {}
    for key in "xyz":
        p, q = (np.exp(spread(c[key]["encoder_logits"], V)) for c in (a, b))
        expected[key] = (p * np.log(p / q)).sum(-1)
    every = np.concatenate(list(expected.values()))
    assert found.figures.mean == pytest.approx(every.mean())
    assert found.figures.max == pytest.approx(every.max())
    assert found.figures.p99 == pytest.approx(every.max(), rel=0.011)
    assert found.figures.rows == 18
    by_id = {item.id: item.figures for item in found.utterances}
    assert {key: by_id[key].mean for key in by_id} == pytest.approx(
        {key: values.mean() for key, values in expected.items()}
    )
    assert found.worst(1)[0].id == max(expected, key=lambda key: expected[key].mean())


def test_the_same_cache_differs_in_nothing(tmp_path: Path) -> None:
    lattice, _ = collapse(dense_lattice(1), 2)
    hidden = VectorRecord(np.ones((5, 4), np.float32))
    records = {"x": [lattice, posterior(1, 4), hidden]}
    cache = cache_of(tmp_path / "a", [LATTICE, CTC, HIDDEN], records)
    found = compare(cache, cache)
    assert [target.figures.max for target in found.targets] == pytest.approx([0, 0, 0], abs=1e-12)
    assert [target.figures.changed for target in found.targets] == [0, 0, None]


def test_rows_that_b_rules_out_are_counted_apart(tmp_path: Path) -> None:
    drawn = posterior(1, 4)
    drawn.logp_NC[2, -1] = -np.inf
    drawn = replace(drawn, logp_NC=normalise(drawn.logp_NC))
    a = cache_of(tmp_path / "a", [CTC], {"x": [posterior(1, 4)], "y": [posterior(2, 4)]})
    b = cache_of(tmp_path / "b", [CTC], {"x": [drawn], "y": [posterior(3, 4)]})
    found = compare(a, b)
    figures = found.targets[0].figures
    assert (figures.rows, figures.infinite) == (12, 1)
    assert figures.max is not None
    assert np.isfinite(figures.max)
    assert found.targets[0].worst(1)[0].id == "x"
    assert "infinite at 1 frame more" in "\n".join(comparison_lines(found))


def test_vectors_are_compared_by_their_errors(tmp_path: Path) -> None:
    values_TD = np.arange(20, dtype=np.float32).reshape(5, 4)
    other_TD = values_TD.copy()
    other_TD[2, 3] += 2
    a = cache_of(tmp_path / "a", [HIDDEN], {"x": [VectorRecord(values_TD)]})
    b = cache_of(tmp_path / "b", [HIDDEN], {"x": [VectorRecord(other_TD)]})
    (found,) = compare(a, b).targets
    assert (found.figures.mean, found.figures.max, found.figures.rows) == (0.1, 2.0, 5)
    assert "|A − B|       mean 0.1" in "\n".join(comparison_lines(compare(a, b)))


def test_the_likeliest_of_equals_is_the_one_with_the_smallest_id() -> None:
    logp_NC = np.log(np.array([[0.4, 0.4, 0.2], [0.1, 0.5, 0.4], [0.0, 0.0, 1.0]]) + 1e-30)
    logp_NC[2, :2] = -np.inf
    ids_NK = np.array([[5, 3], [5, 3], [-1, -1]], np.int32)
    assert likeliest(PosteriorRecord(logp_NC.astype(np.float32), ids_NK)).tolist() == [3, 3, -1]


# best paths


def test_best_paths_are_told_of_each_utterance_and_in_all(tmp_path: Path) -> None:
    sides = []
    for name, seeds in (("a", (1, 2)), ("b", (1, 5))):
        lattices = {f"u{i}": [collapse(dense_lattice(s), 2)[0]] for i, s in enumerate(seeds)}
        sides.append(cache_of(tmp_path / name, [LATTICE], lattices))
    found = compare(*sides)
    (lattice,) = found.targets
    assert lattice.paths is not None
    assert (lattice.paths.utterances, lattice.paths.other, lattice.paths.labels) == (2, 1, 6)
    same, other = (item.paths for item in lattice.utterances)
    assert same is not None
    assert other is not None
    assert (same.differ, same.other) == (0, 0)
    assert lattice.paths == same + other
    assert 0 < other.differ <= 3
    lines = comparison_lines(found)
    (told,) = [line for line in lines if "best paths" in line]
    assert "others in 1 of 2 utterances" in told
    assert any(line.endswith(f"{other.differ} of 3 labels") for line in lines)
    assert sides[0].spec.teacher.frame_shift * other.differ <= (other.seconds or 0.0)


def test_as_many_of_the_worst_as_are_asked_for(tmp_path: Path) -> None:
    sides = [
        cache_of(tmp_path / name, [CTC], {f"u{i}": [posterior(i + more, 4)] for i in range(7)})
        for name, more in (("a", 0), ("b", 50))
    ]
    found = compare(*sides)
    for asked, shown in ((0, 0), (2, 2), (20, 7)):
        lines = comparison_lines(found, asked)
        assert sum(line.startswith("  u") for line in lines) == shown


# what is in common


def vectors(path: Path, *ids: str) -> Cache:
    return cache_of(path, [HIDDEN], {i: [VectorRecord(np.ones((2, 2), np.float32))] for i in ids})


def test_what_is_in_one_alone_is_counted_and_named(tmp_path: Path) -> None:
    a = vectors(tmp_path / "a", "x", *(f"a{i}" for i in range(NAMED + 2)))
    found = compare(a, vectors(tmp_path / "b", "x", "y")).overlap
    assert (found.common, found.only_a, found.only_b, found.compared) == (1, NAMED + 2, 1, 1)
    assert found.named_a == tuple(f"a{i}" for i in range(NAMED))
    assert found.named_b == ("y",)


def test_a_sample_is_evenly_spaced_and_says_so(tmp_path: Path) -> None:
    names = [f"u{i}" for i in range(9)]
    a, b = vectors(tmp_path / "a", *names), vectors(tmp_path / "b", *names)
    told: list[tuple[int, int]] = []
    found = compare(a, b, 3, lambda done, total: told.append((done, total)))
    assert [item.id for item in found.targets[0].utterances] == ["u0", "u4", "u8"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert "a sample of 3, evenly spaced" in "\n".join(comparison_lines(found))
    assert compare(a, b, 20).overlap.compared == 9


def test_sizes_are_per_hour_of_each_sides_own_audio(tmp_path: Path) -> None:
    a, b = vectors(tmp_path / "a", "x"), vectors(tmp_path / "b", "x", "y")
    sides = compare(a, b).to_dict()
    assert sides["a"]["targets"][0]["bytes_per_hour"] == pytest.approx(8 * 1000)
    assert sides["b"]["targets"][0]["bytes_per_hour"] == pytest.approx(8 * 1000)
    assert sides["a"]["bytes_per_hour"] == pytest.approx(a.nbytes * 1000)
    json.dumps(sides, allow_nan=False)


# what is refused


def test_nothing_in_common(tmp_path: Path) -> None:
    with pytest.raises(SpecMismatchError, match="have none in common"):
        compare(vectors(tmp_path / "a", "x"), vectors(tmp_path / "b", "y"))


def test_no_target_in_common(tmp_path: Path) -> None:
    a = cache_of(tmp_path / "a", [CTC], {"x": [posterior(1, 4)]})
    with pytest.raises(SpecMismatchError, match="no target is in both .* holds encoder_logits;"):
        compare(a, vectors(tmp_path / "b", "x"))


def test_another_kind(tmp_path: Path) -> None:
    other = replace(HIDDEN, kind="features")
    values = VectorRecord(np.ones((2, 2), np.float32))
    b = cache_of(tmp_path / "b", [other], {"x": [values]})
    with pytest.raises(SpecMismatchError, match=r"is hidden \(vector records\) in .* features"):
        compare(vectors(tmp_path / "a", "x"), b)


def test_another_vocabulary(tmp_path: Path) -> None:
    a = cache_of(tmp_path / "a", [CTC], {"x": [posterior(1, 4)]})
    teacher = sample_spec().teacher
    spec = CacheSpec(replace(teacher, vocab_size=101), "0" * 64, (CTC,)).normalised()
    writer = create_or_open(tmp_path / "b", spec, "zarr", TOKENIZER_FILES)
    columns = spec.codec(CTC.name).encode(posterior(1, 4))
    columns = {f"{CTC.name}.{name}": array for name, array in columns.items()}
    item = PackedUtterance(sample_utterance("x"), 3.6, TOKENS, 5, columns, {})
    writer.commit("u0", [item], [], "0")
    with pytest.raises(SpecMismatchError, match="vocab_size 101, the other 100"):
        compare(a, open_cache(tmp_path / "b"))


def test_other_frames(tmp_path: Path) -> None:
    a = cache_of(tmp_path / "a", [CTC], {"x": [posterior(1, 4)]})
    b = cache_of(tmp_path / "b", [CTC], {"x": [posterior(1, 4, rows=7)]})
    with pytest.raises(SpecMismatchError, match="utterance 'x' has 6 rows in .*, but 7 rows in"):
        compare(a, b)


def test_a_lattice_that_does_not_fit_its_tokens(tmp_path: Path) -> None:
    lattice, _ = collapse(dense_lattice(1), 2)
    short = LatticeRecord(lattice.logp_TSC[:, :3], lattice.ids_TSK[:, :3])
    a = cache_of(tmp_path / "a", [LATTICE], {"x": [short]})
    with pytest.raises(DamagedCacheError, match="3 tokens, but a lattice of 2 labels"):
        compare(a, a)


def test_a_class_beyond_the_vocabulary() -> None:
    given = posterior(1, 4)
    with pytest.raises(DamagedCacheError, match="class id 99 of a vocabulary of"):
        divergence(replace(given, ids_NK=np.full_like(given.ids_NK, 99)), given, 99)


# the tally


def test_a_tally_is_right_within_one_percent() -> None:
    values_N = np.random.default_rng(0).exponential(size=20_000) ** 4
    tally = Tally()
    for part in np.array_split(values_N, 7):
        tally.add(part)
    exact = float(np.percentile(values_N, 99, method="inverted_cdf"))
    assert tally.percentile is not None
    assert exact * (1 - 1e-9) <= tally.percentile <= exact * 1.0101
    assert tally.mean == pytest.approx(values_N.mean())
    assert tally.largest == values_N.max()


def test_an_empty_tally_has_no_figures() -> None:
    tally = Tally()
    tally.add(np.array([np.inf]))
    assert (tally.count, tally.infinite, tally.mean, tally.percentile) == (0, 1, None, None)
    tally.add(np.zeros(3))
    assert (tally.mean, tally.percentile, tally.largest) == (0.0, 0.0, 0.0)
