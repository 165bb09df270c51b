"""Padding: shapes, lengths and values of every kind of target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from kdcache.batch import (
    HypothesesBatch,
    LatticeBatch,
    PosteriorBatch,
    ScoreBatch,
    VectorBatch,
)
from kdcache.codec import TailModel
from kdcache.codec.records import (
    HypothesesRecord,
    LatticeRecord,
    PosteriorRecord,
    ScoreRecord,
    VectorRecord,
)
from kdcache.stream.collate import collate, collate_records
from kdcache.stream.source import Example, KeptSource


def lattice(t: int, u: int, k: int) -> LatticeRecord:
    logp = np.full((t, u + 1, 3 + k), -1.5, np.float32)
    return LatticeRecord(logp, np.full((t, u + 1, k), 7, np.int32))


def example(name: str, u: int, samples: int, **targets: object) -> Example:
    tokens = np.arange(u, dtype=np.int64)
    return Example(name, name, tokens, np.ones(samples, np.float32), targets)  # type: ignore[arg-type]


def test_labels_and_audio_are_padded_with_zeros() -> None:
    batch = collate([example("a", 3, 5), example("b", 0, 2)])
    assert batch.ids == ("a", "b")
    assert len(batch) == 2
    assert batch.labels_BU.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert batch.label_lengths_B.tolist() == [3, 0]
    assert batch.audio_BN is not None
    assert batch.audio_BN.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch.audio_lengths_B is not None
    assert batch.audio_lengths_B.tolist() == [5, 2]


def test_no_audio_in_one_means_none_in_the_batch() -> None:
    silent = Example("a", "a", np.zeros(1, np.int64), None)
    assert collate([silent]).audio_BN is None


def test_lattices() -> None:
    batch = collate(
        [example("a", 2, 1, lattice=lattice(4, 2, 1)), example("b", 3, 1, lattice=lattice(2, 3, 1))]
    )
    found = batch.lattice
    assert found.logp_BTSC.shape == (2, 4, 4, 4)
    assert found.frames_B.tolist() == [4, 2]
    assert found.labels_B.tolist() == [2, 3]
    assert found.logp_BTSC[1, 2:].abs().sum() == 0
    assert found.ids_BTSK.dtype == torch.int64
    assert found.ids_BTSK[0, 0, 3].tolist() == [-1]


def test_lattices_that_are_whole_have_no_starts() -> None:
    assert collate_records([lattice(2, 1, 0), lattice(3, 2, 0)]).starts_BT is None  # type: ignore[union-attr]


def test_bands_beside_whole_lattices() -> None:
    band = replace(lattice(4, 1, 1), starts_T=np.array([0, 1, 1, 2], np.int32))
    found = collate_records([band, lattice(2, 2, 1)])
    assert isinstance(found, LatticeBatch)
    assert found.logp_BTSC.shape == (2, 4, 3, 4)
    assert found.frames_B.tolist() == [4, 2]
    assert found.labels_B.tolist() == [3, 2]
    assert found.starts_BT is not None
    assert found.starts_BT.dtype == torch.int64
    assert found.starts_BT.tolist() == [[0, 1, 1, 2], [0, 0, 0, 0]]
    assert found.logp_BTSC[0, :, 2].abs().sum() == 0
    assert (found.ids_BTSK[0, :, 2] == -1).all()


def test_lattices_without_more_classes() -> None:
    found = collate_records([lattice(2, 1, 0), lattice(3, 0, 0)])
    assert found.ids_BTSK.shape == (2, 3, 2, 0)  # type: ignore[union-attr]


def test_rests_of_posteriors_of_different_widths_have_one_place() -> None:
    narrow = PosteriorRecord(np.log(np.array([[0.9, 0.1]], np.float32)), np.array([[4]], np.int32))
    wide = PosteriorRecord(
        np.log(np.array([[0.5, 0.3, 0.2]] * 2, np.float32)), np.array([[4, 2]] * 2, np.int32)
    )
    found = collate_records([narrow, wide])
    assert isinstance(found, PosteriorBatch)
    torch.testing.assert_close(found.logp_BNC[0, 0].exp(), torch.tensor([0.9, 0.0, 0.1]))
    assert found.logp_BNC[0, 1].tolist() == [0.0, 0.0, 0.0]
    assert found.ids_BNK.tolist() == [[[4, -1], [-1, -1]], [[4, 2], [4, 2]]]
    assert found.tail is None


def test_the_model_of_the_rest_is_one_table_for_all_batches() -> None:
    tail = TailModel.from_weights(np.ones((2, 5)), np.array([0, 1, 0, 1, 0]))
    record = PosteriorRecord(np.zeros((1, 1), np.float32), np.zeros((1, 0), np.int32), tail)
    first, second = collate_records([record]), collate_records([record, record])
    assert isinstance(first, PosteriorBatch)
    assert isinstance(second, PosteriorBatch)
    assert first.tail is second.tail is not None
    assert first.tail.row_V.tolist() == [0, 1, 0, 1, 0]
    assert first.tail.logw_RV.tolist() == [[0.0] * 5] * 2


def test_posteriors_and_vectors() -> None:
    posterior = PosteriorRecord(np.zeros((2, 3), np.float32), np.ones((2, 2), np.int32))
    longer = PosteriorRecord(np.zeros((5, 3), np.float32), np.ones((5, 2), np.int32))
    found = collate_records([posterior, longer])
    assert found.logp_BNC.shape == (2, 5, 3)  # type: ignore[union-attr]
    assert found.lengths_B.tolist() == [2, 5]  # type: ignore[union-attr]
    vectors = collate_records([VectorRecord(np.ones((3, 4), np.float32))])
    assert vectors.values_BTD.shape == (1, 3, 4)  # type: ignore[union-attr]


def test_scores() -> None:
    records = [ScoreRecord(np.array([value], np.float32)) for value in (-1.5, -np.inf)]
    found = collate_records(records)
    assert isinstance(found, ScoreBatch)
    assert found.scores_B.tolist() == [-1.5, -np.inf]


def test_hypotheses_of_different_numbers_and_lengths() -> None:
    def record(*lists: list[int]) -> HypothesesRecord:
        scores = -np.arange(len(lists), dtype=np.float32)
        lengths = np.array([len(labels) for labels in lists], np.int32)
        ids = np.array([label for labels in lists for label in labels], np.int32)
        return HypothesesRecord(scores, lengths, ids)

    found = collate_records([record([7, 8, 9], []), record([5]), record()])
    assert isinstance(found, HypothesesBatch)
    assert found.ids_BHU.dtype == torch.int64
    assert found.ids_BHU.tolist() == [
        [[7, 8, 9], [-1, -1, -1]], [[5, -1, -1], [-1, -1, -1]], [[-1] * 3, [-1] * 3],
    ]  # fmt: skip
    assert found.lengths_BH.tolist() == [[3, 0], [1, 0], [0, 0]]
    assert found.scores_BH.tolist() == [[0.0, -1.0], [0.0, 0.0], [0.0, 0.0]]
    assert found.counts_B.tolist() == [2, 1, 0]
    none = collate_records([record()])
    assert isinstance(none, HypothesesBatch)
    assert none.ids_BHU.shape == (1, 0, 0)


def test_entries_of_codebooks_come_along() -> None:
    vectors = [np.ones((t, 2), np.float32) for t in (2, 3)]
    codes = [np.full((t, 4), 255, np.uint8) for t in (2, 3)]
    found = collate_records([VectorRecord(*pair) for pair in zip(vectors, codes, strict=True)])
    assert isinstance(found, VectorBatch)
    assert found.codes_BTQ is not None
    assert found.codes_BTQ.dtype == torch.int64
    assert found.codes_BTQ[:, :, 0].tolist() == [[255, 255, -1], [255, 255, 255]]
    plain = collate_records([VectorRecord(vectors[0])])
    assert isinstance(plain, VectorBatch)
    assert plain.codes_BTQ is None


def test_a_kept_source_decodes_each_utterance_once() -> None:
    asked: list[int] = []

    class Counting:
        snapshot = "s"
        durations = np.ones(2)

        def load(self, row: int) -> Example:
            asked.append(row)
            return example(str(row), 1, 1)

    kept = KeptSource(Counting())
    assert [kept.load(row).id for row in (0, 1, 0, 0)] == ["0", "1", "0", "0"]
    assert asked == [0, 1]
    assert (kept.snapshot, len(kept.durations)) == ("s", 2)
