"""A run from the cache and the same run with its frozen teacher in the process, step by step.

Both see the same utterances with the same weights to begin with. At every one of the first 50 steps

- on equal weights, each term of the loss on the cached targets differs from that on the live ones
  by no more than the codec's stated bound allows, and
- the losses of the two runs, whose weights have gone apart by what the codec lost at every step
  before, still differ by no more than that.

With class probabilities q of the teacher, p of the student and the codec's bound b on
|ln q' − ln q| the bound of a divergence is Σ q (e^b − 1)(|ln p| + |ln q|) + q e^b b (see
``test_cached_equals_live``). With a bound b on a vector's values v and the student's s, that of the
squared error is the mean of 2 |v − s| b + b². Targets that are stored as they are have bound 0.

Shapes: B batch, T frames, S columns, N frames or tokens, V vocabulary, D width, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from kdcache.batch import LatticeBatch, PosteriorBatch, VectorBatch
from kdcache.codec.records import LatticeRecord, PosteriorRecord, VectorRecord
from kdcache.corpus import load_audio, load_tokenizer, read_manifest
from kdcache.lattice import arc_occupancy, best_path, class_log_probs, forward_backward
from kdcache.lattice.banded import band_widths
from kdcache.loss import estimate_ngram, save_ngram
from kdcache.loss.classes import student_classes
from kdcache.student import build_student, save_student
from kdcache.student.settings import AnyStudentSettings
from kdcache.target.codebooks import train_codebooks
from kdcache.teacher import load_teacher
from kdcache.testing.local_cache import write_cache
from kdcache.train.live import LiveTeacher
from kdcache.train.loop import Trainer
from kdcache.train.objective import loss_terms
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from kdcache.batch import Batch, TargetBatch
    from kdcache.store import Cache
    from kdcache.stream.stream import Step
    from kdcache.student import StudentOutput

STEPS = 50
ROUNDING = 2e-3
"""Relative: of float32, in two batches of other padding, over all steps."""

TEACHER = {"hidden": 24, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 24, "dropout": 0,
           "subsampling_channels": 4}  # fmt: skip
STUDENT = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "joint": 16, "dropout": 0,
           "subsampling_channels": 4}  # fmt: skip
ADDITIVE = {"joint_kind": "additive"}
OF_CTC = {
    "kind": "ctc", "conv_channels": 8, "conv_kernels": [320, 4], "conv_strides": [160, 4],
    "position_kernel": 4, "hidden": 16, "layers": 1, "heads": 2, "feed_forward": 2, "dropout": 0,
}  # fmt: skip
SAN_M = {
    "kind": "san_m", "hidden": 16, "layers": 2, "heads": 2, "feed_forward": 2, "dropout": 0,
    "subsampling_channels": 4, "ctc_head": True, "share": {"encoder": "all"},
    "decoder": {"width": 8, "layers": 1, "heads": 2, "dropout": 0},
}  # fmt: skip
RESCORER = {"rescorer": {"width": 8, "layers": 1, "heads": 2, "dropout": 0}}

# By name: the term, the target, what teacher and student need for it, and settings of the loss.
CASES: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "three classes": ("lattice_kl", "lattice", {}, {}, {}),
    "top-k": ("lattice_kl", {"kind": "lattice", "top_k": 3, "codec": "root"}, {}, {}, {}),
    "all classes": ("lattice_kl", {"kind": "lattice", "top_k": 14, "codec": "fp16"}, {}, {}, {}),
    "band": ("lattice_kl", {"kind": "lattice", "top_k": 2, "width": 3}, {}, {}, {}),
    "alignments": ("alignment_kl", {"kind": "lattice", "top_k": 0, "codec": "fp16"}, {}, {}, {}),
    "best path": ("best_path_kl", {"kind": "lattice", "top_k": 3, "codec": "fp16"}, {}, {}, {}),
    "encoder": (
        "encoder_kl",
        {"kind": "encoder_logits", "top_k": "all"},
        ADDITIVE,
        ADDITIVE,
        {"encoder_temperature": 1.0},
    ),
    "encoder, some classes": (
        "encoder_kl",
        {"kind": "encoder_logits", "top_p": 0.95},
        {"ctc_head": True},
        {"ctc_head": True},
        {},
    ),
    "hidden": ("hidden_mse", {"kind": "hidden", "codec": "int8"}, {}, {"hidden_head": 24}, {}),
    "entries": ("hidden_codes", "hidden", {}, {"codebook_head": 2}, {}),
    "logits": ("logit_mse", {"kind": "frame_logits"}, OF_CTC, OF_CTC, {"rnnt": 0, "ctc": 1}),
    "sequences": (
        "sequence_kd",
        {"kind": "encoder_logits", "top_k": "all"},
        OF_CTC,
        OF_CTC,
        {"rnnt": 0, "ctc": 1},
    ),
    "full sum": ("full_sum", "full_sum", {}, {}, {}),
    "hypotheses": ("hypotheses", {"kind": "hypotheses", "n": 2}, {}, {}, {}),
    "decoder": ("decoder_kl", {"kind": "decoder_logits", "top_k": 4}, RESCORER, RESCORER, {}),
    "decoder alone": ("decoder_kl", "decoder_logits", SAN_M, SAN_M, {"rnnt": 0, "attention": 1}),
    "its encoder": ("encoder_kl", "encoder_logits", SAN_M, SAN_M, {"rnnt": 0, "attention": 1}),
}
FAST = ("three classes", "encoder")


def test_every_term_of_a_target_has_a_case() -> None:
    from kdcache.train.settings import TARGETS

    assert {case[0] for case in CASES.values()} == TARGETS.keys()


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in CASES],
)
def test_step_by_step(tones: Path, tmp_path: Path, case: str) -> None:
    term, target, of_teacher, of_student, of_loss = CASES[case]
    if term == "sequence_kd":
        tokens = load_tokenizer(tones / "tokenizer")
        spelt = [tokens.encode(one.text) for one in read_manifest(tones / "train.jsonl")]
        ngram = estimate_ngram(spelt, tokens.vocab_size, 2)
        of_loss = of_loss | {"denominator": save_ngram(ngram, tmp_path / "denominator.npz")}
    folder = make_teacher(tones, tmp_path / "teacher", sizes_of(TEACHER, of_teacher))
    if term == "hidden_codes":
        target = {"kind": "hidden", "codec": codebooks(folder, tones)}
    cache = write_cache(load_teacher(folder), tones / "train.jsonl", tmp_path / "cache", [target])
    values = settings(
        tones, cache, sizes_of(STUDENT, of_student), {"rnnt": 1.0, term: 0.3} | of_loss
    )
    from_cache = Trainer(TrainSettings.model_validate(values | {"out": tmp_path / "a"}), World())
    live = {"out": tmp_path / "b", "live": {"teacher": folder}}
    beside = Trainer(TrainSettings.model_validate(values | live), World())
    compare(from_cache, beside, cache, term)


def compare(from_cache: Trainer, beside: Trainer, cache: Cache, term: str) -> None:
    losses, used, apart = [], 0.0, 0.0
    for _, ours, theirs in zip(range(STEPS), steps(from_cache), steps(beside), strict=False):
        (cached,), (bare,) = ours.batches, theirs.batches
        assert cached.ids == bare.ids
        assert not bare.targets
        at_once, bound, value = at_equal_weights(beside, cached, bare, cache, term)
        assert at_once <= bound + ROUNDING * value
        for trainer, step in ((from_cache, ours), (beside, theirs)):
            trainer._train_step(step)
        found = [trainer._recorder.last[term] for trainer in (from_cache, beside)]
        assert found[1] == pytest.approx(value / len(bare), rel=1e-4)
        allowed = bound / len(bare) + ROUNDING * found[1]
        gap = abs(found[0] - found[1])
        assert gap <= allowed, f"step {beside.step}"
        used, apart = max(used, gap / allowed), max(apart, gap / found[1])
        losses.append(beside._recorder.last["loss"])
    assert len(losses) == STEPS
    assert min(losses[-5:]) < 0.9 * losses[0]  # something was learnt
    print(f"{term}: {apart:.1e} of the loss apart; of what is allowed at most {used:.0%} was used")


def at_equal_weights(
    trainer: Trainer, cached: Batch, bare: Batch, cache: Cache, term: str
) -> tuple[float, float, float]:
    """By how much the two terms differ, by how much they may, and the live one."""
    student, loss = trainer.student.train(), trainer._settings.loss
    assert isinstance(trainer._live, LiveTeacher)
    statistics = {key: value.clone() for key, value in student.state_dict().items()}
    with torch.no_grad():
        output = student(bare)
        taught = trainer._live.teach(bare, bare, None, loss).batch
        terms = [loss_terms(output, batch, student.blank, loss)[term] for batch in (cached, taught)]
        (target,) = taught.targets.values()
        bound = bound_of(target, output, taught, student.blank, cache, term)
    student.load_state_dict(statistics)
    return float((terms[0] - terms[1]).abs().sum()), bound, float(terms[1].sum())


def bound_of(
    target: TargetBatch, output: StudentOutput, batch: Batch, blank: int, cache: Cache, term: str
) -> float:
    """What the codec's bound comes to, summed over the batch."""
    (name,) = batch.targets
    if isinstance(target, LatticeBatch):
        nodes = "lattice" if target.starts_BT is None else "band"
        student = student_classes(output.factored(), target, batch.labels_BU, blank, nodes)
        parts = lattice_parts(target, student, cache, name)
        if term == "alignment_kl":
            return sum(alignments_bound(*part) for part in parts)
        if term == "best_path_kl":
            return sum(best_path_bound(*part) for part in parts)
        return sum(divergence_bound(*part) for part in parts)
    if isinstance(target, PosteriorBatch) and term == "sequence_kd":
        rows = rows_of(target, output.ctc_logits_BTV, cache, name)
        return sum(sequences_bound(*pair) for pair in rows)
    if isinstance(target, PosteriorBatch):
        logits = output.attention_logits_BUV if name == "decoder_logits" else output.frame_logits()
        return sum(divergence_bound(*pair) for pair in rows_of(target, logits, cache, name))
    if name == "frame_logits":
        return vector_bound(target, output.ctc_logits_BTV, cache, name)
    if isinstance(target, VectorBatch) and output.vectors_BTD is not None:
        return vector_bound(target, output.vectors_BTD, cache, name)
    return 0.0


def lattice_parts(
    target: LatticeBatch, student_BTSC: Tensor, cache: Cache, name: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    starts = target.starts_BT
    widths_B = target.labels_B + 1
    if starts is not None:
        widths_B = band_widths(starts, target.frames_B, target.labels_B)
    for row, (frames, width) in enumerate(
        zip(target.frames_B.tolist(), widths_B.tolist(), strict=True)
    ):
        logq = target.logp_BTSC[row, :frames, :width]
        ids = target.ids_BTSK[row, :frames, :width].numpy().astype(np.int32)
        first = None if starts is None else starts[row, :frames].numpy().astype(np.int32)
        bound = cache.codec(name).error_bound(LatticeRecord(logq.numpy(), ids, first))
        yield logq, student_BTSC[row, :frames, :width], torch.from_numpy(np.asarray(bound))


def rows_of(
    target: PosteriorBatch, logits_BNV: Tensor, cache: Cache, name: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    no_labels_B = torch.zeros_like(target.lengths_B)
    ids_BN1K = target.ids_BNK[:, :, None]
    student = class_log_probs(logits_BNV[:, :, None], ids_BN1K, target.lengths_B, no_labels_B)
    for row, length in enumerate(target.lengths_B.tolist()):
        logq, ids = target.logp_BNC[row, :length], target.ids_BNK[row, :length]
        record = PosteriorRecord(logq.numpy(), ids.numpy().astype(np.int32))
        bound = torch.from_numpy(np.asarray(cache.codec(name).error_bound(record)))
        yield logq, student[row, :length, 0], bound


def divergence_bound(logq: Tensor, logp: Tensor, error: Tensor) -> float:
    there = logq.isfinite() & logp.isfinite() & error.isfinite()
    logq, logp, error = (x.where(there, torch.zeros(())).double() for x in (logq, logp, error))
    q = logq.exp() * there
    of_class = q * torch.expm1(error) * (logp.abs() + logq.abs()) + q * error.exp() * error
    return float(of_class.sum())


def sequences_bound(logq: Tensor, logp: Tensor, error: Tensor) -> float:
    """All classes are kept. Scores of paths Q move by B = Σ_t max b at most, their logarithm after
    normalising by 2 B, and |ln Q − ln P| is at most 2 Σ_t max |ln q − ln p|; as for classes."""
    moved = 2 * error[:, :-1].double().amax(-1).sum()
    apart = 2 * (logq - logp)[:, :-1].double().abs().amax(-1).sum()
    return float(torch.expm1(moved) * apart + moved * moved.exp())


def alignments_bound(logq: Tensor, logp: Tensor, error: Tensor) -> float:
    """Of a whole lattice. Logarithms of alignments' posteriors move by at most twice what their
    scores do: the sum of the largest b of each frame's blank and each column's label.
    E |ln Q − ln P| is at most Σ_arcs γ |s^T − s^S| + |ln Z_T − ln Z_S|."""
    arcs = [logq[None, ..., kind] for kind in (0, 1)]
    student = [logp[None, ..., kind] for kind in (0, 1)]
    lengths = (torch.tensor([logq.shape[0]]), torch.tensor([logq.shape[1] - 1]))
    found, theirs = forward_backward(*arcs, *lengths), forward_backward(*student, *lengths)
    gamma = arc_occupancy(*arcs, *lengths, found)
    gaps = [g * (q - p).abs() for g, q, p in zip(gamma, arcs, student, strict=True)]
    apart = sum(float(gap.where(g > 0, 0.0).sum()) for gap, g in zip(gaps, gamma, strict=True))
    apart += float((found.log_likelihood_B - theirs.log_likelihood_B).abs())
    moved = 2 * (error[..., 0].double().amax(1).sum() + error[:, :-1, 1].double().amax(0).sum())
    return float(torch.expm1(moved) * apart + moved * moved.exp())


def best_path_bound(logq: Tensor, logp: Tensor, error: Tensor) -> float:
    """That of the divergences at the nodes of the alignment that is best, if both agree on it."""
    arcs = [logq[None, ..., kind] for kind in (0, 1)]
    lengths = (torch.tensor([logq.shape[0]]), torch.tensor([logq.shape[1] - 1]))
    (emitted_U,) = best_path(*arcs, *lengths).frames_BU.tolist()
    nodes = {(t, sum(e < t for e in emitted_U) + n)
             for t in range(logq.shape[0])
             for n in range(1 + sum(e == t for e in emitted_U))}  # fmt: skip
    t, u = torch.tensor(sorted(nodes)).T
    return divergence_bound(logq[t, u], logp[t, u], error[t, u])


def vector_bound(target: VectorBatch, values_BTD: Tensor, cache: Cache, name: str) -> float:
    total = 0.0
    for row, length in enumerate(target.lengths_B.tolist()):
        v = target.values_BTD[row, :length]
        b = torch.from_numpy(cache.codec(name).error_bound(VectorRecord(v.numpy())))
        total += float((2 * (v - values_BTD[row, :length]).abs() * b + b * b).mean(-1).sum())
    return total


def sizes_of(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Those of the case, over the base's where both are transducers."""
    return more if "kind" in more else base | more


def steps(trainer: Trainer) -> Iterator[Step]:
    while True:
        yield from trainer.stream.steps()


def settings(
    tones: Path, cache: Cache, student: dict[str, Any], loss: dict[str, Any]
) -> dict[str, Any]:
    return {
        "data": {"cache": cache.location, "corpus": tones / "train.jsonl", "keep_in_memory": True},
        "student": student,
        "loss": loss,
        "optim": {"steps": STEPS, "warmup": 5, "learning_rate": 2e-3},
        "batch_seconds": 6.0,
        "augment": False,
        "seed": 4,
    }


def make_teacher(tones: Path, folder: Path, sizes: dict[str, Any]) -> Path:
    """With random weights drawn wide, so that its posteriors are not nearly uniform."""
    torch.manual_seed(11)
    found = TypeAdapter(AnyStudentSettings).validate_python(sizes)
    teacher = build_student(found, load_tokenizer(tones / "tokenizer"))
    with torch.no_grad():
        for name, weight in teacher.named_parameters():
            if weight.ndim == 2 and ("projector" in name or "head" in name or ".out." in name):
                weight.mul_(3.0)
    return save_student(teacher, folder)


def codebooks(folder: Path, tones: Path) -> dict[str, Any]:
    """A codec whose codebooks are trained on the teacher's own vectors, as extraction does."""
    teacher = load_teacher(folder)
    audio = [load_audio(one.audio, 16_000) for one in read_manifest(tones / "train.jsonl")]
    outputs = teacher.forward(audio[:12], [()] * 12)
    vectors = np.concatenate([output.hidden_TD.numpy() for output in outputs])
    return {"name": "codebooks", "count": 2, "table": train_codebooks(vectors, 2).to_dict()}
