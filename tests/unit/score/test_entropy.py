"""Entropies of frames and nodes, against sums written out."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest
import torch

from kdcache.corpus import load_tokenizer, read_manifest
from kdcache.errors import InputError
from kdcache.score.entropy import entropy_of, lattice_entropies, measure_entropies
from kdcache.student import TransducerStudent, build_student
from kdcache.student.settings import StudentSettings

if TYPE_CHECKING:
    from pathlib import Path

SMALL = StudentSettings(
    hidden=16, layers=1, heads=2, joint=16, subsampling_channels=4, dropout=0, joint_kind="additive"
)


@pytest.fixture(scope="module")
def student(tones: Path) -> TransducerStudent:
    torch.manual_seed(3)
    return build_student(SMALL, load_tokenizer(tones / "tokenizer")).eval()


def test_a_sure_row_has_none_and_an_even_one_the_most() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [200.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1e4, -1e4]])
    assert entropy_of(logits).tolist() == pytest.approx([math.log(4), 0.0, math.log(2)])


def test_nodes_count_as_often_as_alignments_pass_them() -> None:
    """Brute force over all alignments of two labels to three frames."""
    logits = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(1))
    labels, blank = torch.tensor([2, 0]), 3
    logp = logits.double().log_softmax(-1)
    passed, total = torch.zeros(3, 3, dtype=torch.float64), 0.0
    for where in itertools.combinations(range(4), 2):  # of four arcs two are labels, then a blank
        t = u = 0
        nodes, score = [], 0.0
        for arc in range(5):
            nodes.append((t, u))
            if arc in where:
                score, u = score + float(logp[t, u, labels[u]]), u + 1
            else:
                score, t = score + float(logp[t, u, blank]), t + 1
        total += math.exp(score)
        for node in nodes:
            passed[node] += math.exp(score)
    entropy, occupancy = lattice_entropies(logits, labels, blank)
    torch.testing.assert_close(occupancy, passed / total)
    torch.testing.assert_close(entropy, -(logp.exp() * logp).sum(-1))


def test_means_are_those_of_single_utterances(tones: Path, student: TransducerStudent) -> None:
    utterances = list(read_manifest(tones / "train.jsonl"))[:5]
    whole = measure_entropies(student, utterances, batch_size=2)
    sums = torch.zeros(3)
    for one in utterances:
        found = measure_entropies(student, [one])
        frames = 30 * round(one.duration / 0.3) // 4
        nodes = frames * (len(student.tokenizer.encode(one.text)) + 1)
        sums += torch.tensor([found.encoder * frames, frames, found.nodes * nodes])
    assert whole.encoder == pytest.approx(float(sums[0] / sums[1]), rel=0.02)
    assert 0 < whole.joint < math.log(student.blank + 1)
    assert set(whole.figures()) == {"entropy_encoder", "entropy_joint", "entropy_nodes"}
    assert measure_entropies(student, utterances, batch_size=5).joint == pytest.approx(whole.joint)


def test_an_encoder_without_logits_has_no_entropy(tones: Path) -> None:
    bare = build_student(
        SMALL.model_copy(update={"joint_kind": "relu"}), load_tokenizer(tones / "tokenizer")
    ).eval()
    found = measure_entropies(bare, list(read_manifest(tones / "train.jsonl"))[:2])
    assert found.encoder is None
    assert set(found.figures()) == {"entropy_joint", "entropy_nodes"}


def test_nothing_to_measure(student: TransducerStudent) -> None:
    with pytest.raises(InputError, match="holds no utterances"):
        measure_entropies(student, [])
