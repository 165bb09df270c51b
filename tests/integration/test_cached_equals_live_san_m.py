"""What a SAN-M student learns from the cache is what the live teacher, a SAN-M too, would teach it.

The bounds are those of ``test_cached_equals_live``, row by row of posteriors.

Shapes: B batch, N encoder frames or tokens, V vocabulary with blank.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.codec.records import PosteriorRecord
from kdcache.corpus import load_tokenizer
from kdcache.network.decoder_settings import DecoderSettings
from kdcache.store import CacheSpec, PackedUtterance, create_or_open, open_cache
from kdcache.stream import stream_cache
from kdcache.student import build_student
from kdcache.student.san_m_settings import SanMStudentSettings
from kdcache.target import make_target, target_spec
from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import save_small_san_m
from kdcache.train.objective import loss_terms
from kdcache.train.settings import LossSettings
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcache.store import Cache
    from kdcache.student import StudentOutput
    from kdcache.teacher import Teacher

TEXTS = {"one": "one two", "short": "four", "long": "three two one four"}
SIZES = SanMStudentSettings(
    hidden=16,
    layers=2,
    heads=2,
    subsampling_channels=4,
    dropout=0,
    ctc_head=True,
    decoder=DecoderSettings(width=16, layers=1, heads=2, dropout=0),
)
TARGETS = {"decoder_kl": "decoder_logits", "encoder_kl": "encoder_logits"}


def audio() -> list[np.ndarray]:
    random = np.random.RandomState(3)
    return [0.1 * random.randn(9_000 + 4_000 * i).astype(np.float32) for i in range(len(TEXTS))]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    return load_teacher(save_small_san_m(folder, list(TEXTS.values()), hidden=16, ctc_head=True))


def cache_of(teacher: Teacher, path: Path, codec: str) -> tuple[Cache, dict[str, Any]]:
    """All classes of both targets, and what the teacher said."""
    kept = {"top_k": "all", "codec": {"name": codec}}
    targets = tuple(target_spec({"kind": kind, **kept}) for kind in TARGETS.values())
    spec = CacheSpec(teacher.spec, teacher.tokenizer.fingerprint, targets).normalised()
    writer = create_or_open(path, spec, "zarr", teacher.tokenizer.files())
    tokens = [teacher.tokenizer.encode(text) for text in TEXTS.values()]
    outputs = dict(zip(TEXTS, teacher.forward(audio(), tokens), strict=True))
    packed = []
    for name, output in outputs.items():
        columns, fidelity = {}, {}
        for target in targets:
            reduced = make_target(target).reduce(output, spec.codec(target.name))
            columns |= {f"{target.name}.{key}": value for key, value in reduced.columns.items()}
            fidelity |= {f"{target.name}.{key}": value for key, value in reduced.fidelity.items()}
        about = Utterance(name, AudioRef("none.wav"), TEXTS[name])
        sizes = {"duration": 1.0, "tokens": output.tokens, "frames": output.frames}
        packed.append(PackedUtterance(about, columns=columns, fidelity=fidelity, **sizes))
    writer.commit("unit", packed, [], "attempt")
    return open_cache(path), outputs


def heard(folder: Path, batch: Any) -> StudentOutput:
    """A student's logits of the batch, of random weights; the audio is not in this cache."""
    torch.manual_seed(5)
    student = build_student(SIZES, load_tokenizer(folder)).eval()
    samples = dict(zip(TEXTS, audio(), strict=True))
    rows = [torch.from_numpy(samples[name]) for name in batch.ids]
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    with torch.no_grad():
        return student(replace(batch, audio_BN=padded, audio_lengths_B=lengths))


@pytest.mark.parametrize("codec", ["log8", "fp16"])
@pytest.mark.parametrize("term", TARGETS)
def test_value_and_gradient(teacher: Teacher, tmp_path: Path, term: str, codec: str) -> None:
    cache, outputs = cache_of(teacher, tmp_path / "cache", codec)
    (batch,) = stream_cache(cache, batch_seconds=100)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    teacher.tokenizer.save(tokenizer)
    output = heard(tokenizer, batch)
    field = "attention_logits_BUV" if term == "decoder_kl" else "ctc_logits_BTV"
    logits = getattr(output, field).clone().requires_grad_()
    weights = LossSettings.model_validate({"rnnt": 0, term: 1})
    blank = teacher.spec.vocab_size - 1
    terms = loss_terms(replace(output, **{field: logits}), batch, blank, weights)
    terms[term].sum().backward()
    assert logits.grad is not None
    for row, name in enumerate(batch.ids):
        said = outputs[name]
        live_NV = said.token_logits_UV if term == "decoder_kl" else said.frame_logits_TV
        n = len(live_NV)
        own_NV = logits.detach()[row, :n].requires_grad_()
        log_p, log_q = own_NV.log_softmax(-1), live_NV.log_softmax(-1)
        live = (log_q.exp() * (log_q - log_p)).sum()
        live.backward()
        value, slope = bounds(cache, TARGETS[term], log_q, log_p.detach())
        assert (terms[term][row] - live).abs().item() <= value + 1e-4 * live.abs().item()
        moved_N = (logits.grad[row, :n] - own_NV.grad).abs().sum(-1)
        assert (moved_N <= slope + 1e-5).all()
        assert (logits.grad[row, n:] == 0).all()


def bounds(cache: Cache, target: str, log_q: Tensor, log_p: Tensor) -> tuple[float, Tensor]:
    """Of an utterance's loss, and of the gradient summed over the classes of each row."""
    classes = np.broadcast_to(np.arange(log_q.shape[1], dtype=np.int32), log_q.shape)
    nothing = np.full((len(log_q), 1), -np.inf, np.float32)
    whole = np.concatenate([log_q.numpy(), nothing], axis=1)
    record = PosteriorRecord(whole, np.ascontiguousarray(classes))
    bound_NV = torch.from_numpy(np.asarray(cache.codec(target).error_bound(record)))[:, :-1]
    q = log_q.exp()
    moved = q * torch.expm1(bound_NV)
    loss = moved * (log_p.abs() + log_q.abs()) + q * bound_NV.exp() * bound_NV
    return float(loss.sum()), moved.sum(-1)
