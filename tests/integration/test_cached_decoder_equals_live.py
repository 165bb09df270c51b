"""What a rescorer learns from the cache is what its live teacher says, within the codec's bound.

The second pass of a teacher goes the whole way (forced, reduced, packed, committed, read back,
padded), and the divergence of a student's logits from it is compared with that from the teacher's
own, by the bounds of ``test_cached_equals_live``:

    |q' ln(q'/p) − q ln(q/p)| ≤ q (e^b − 1) (|ln p| + |ln q|) + q e^b b,
    |∂L'/∂z − ∂L/∂z| ≤ q (e^b − 1)      at a kept class, and summed over the rest's classes.

Shapes: B batch, U labels (a token axis has U+1 entries), V vocabulary, C kept classes and rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from kdcache.batch import PosteriorBatch
from kdcache.codec.records import PosteriorRecord
from kdcache.loss import posterior_kl
from kdcache.store import CacheSpec, PackedUtterance, create_or_open, open_cache
from kdcache.stream import stream_cache
from kdcache.target import make_target, target_spec
from kdcache.teacher import load_teacher
from kdcache.testing.small_teachers import save_small_transducer
from kdcache.types import AudioRef, Utterance

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from kdcache.store import Cache
    from kdcache.teacher import Teacher

TEXTS = {"one": "one two", "none": "", "long": "three two one four"}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    folder = tmp_path_factory.mktemp("teacher")
    return load_teacher(save_small_transducer(folder, list(TEXTS.values()), rescorer=True))


@pytest.fixture(scope="module")
def outputs(teacher: Teacher) -> dict[str, Any]:
    random = np.random.RandomState(3)
    audio = [0.1 * random.randn(9_000 + 4_000 * i).astype(np.float32) for i in range(len(TEXTS))]
    tokens = [teacher.tokenizer.encode(text) if text else [] for text in TEXTS.values()]
    return dict(zip(TEXTS, teacher.forward(audio, tokens), strict=True))


def build_cache(
    teacher: Teacher, outputs: dict[str, Any], path: Path, layout: str, settings: dict[str, Any]
) -> Cache:
    target = target_spec({"kind": "decoder_logits", **settings})
    spec = CacheSpec(teacher.spec, teacher.tokenizer.fingerprint, (target,)).normalised()
    writer = create_or_open(path, spec, layout, teacher.tokenizer.files())
    packed = []
    for name, output in outputs.items():
        reduced = make_target(target).reduce(output, spec.codec("decoder_logits"))
        columns = {f"decoder_logits.{key}": value for key, value in reduced.columns.items()}
        fidelity = {f"decoder_logits.{key}": value for key, value in reduced.fidelity.items()}
        utterance = Utterance(name, AudioRef("none.wav"), TEXTS[name])
        packed.append(
            PackedUtterance(utterance, 1.0, output.tokens, output.frames, columns, fidelity)
        )
    writer.commit("unit", packed, [], "attempt")
    return open_cache(path)


def classes_of(logits_UV: Tensor, ids_UK: Tensor) -> Tensor:
    """Log-probabilities of the kept classes and of the rest, the plain way: (U+1, C)."""
    logp_UV = logits_UV.double().log_softmax(-1)
    kept_UK = logp_UV.gather(-1, ids_UK.clamp(min=0)).masked_fill(ids_UK < 0, -torch.inf)
    rest_U1 = (1 - kept_UK.exp().sum(-1, keepdim=True)).clamp(min=1e-300).log()
    return torch.cat([kept_UK, rest_U1], -1)


def by_probability(logits_UV: Tensor, ids_UK: Tensor) -> Tensor:
    """The same ids, those that the live teacher finds likelier first: decoding may make ties."""
    order_UK = classes_of(logits_UV, ids_UK)[:, :-1].argsort(dim=-1, descending=True, stable=True)
    return ids_UK.gather(-1, order_UK)


@pytest.mark.parametrize("layout", ["zarr", "webdataset"])
@pytest.mark.parametrize(
    "settings", [{"top_k": 4}, {"top_k": 2, "codec": {"name": "fp16"}}, {"min_p": 1e-3}]
)
def test_value_and_gradient(
    teacher: Teacher,
    outputs: dict[str, Any],
    tmp_path: Path,
    layout: str,
    settings: dict[str, Any],
) -> None:
    cache = build_cache(teacher, outputs, tmp_path / "cache", layout, settings)
    (batch,) = stream_cache(cache, batch_seconds=100)
    target = batch.targets["decoder_logits"]
    assert isinstance(target, PosteriorBatch)
    generator = torch.Generator().manual_seed(0)
    shape = (*target.ids_BNK.shape[:2], teacher.spec.vocab_size)
    student_BUV = torch.randn(shape, generator=generator).double().requires_grad_()
    cached_B = posterior_kl(student_BUV, target, reduction="none")
    (cached_BUV,) = torch.autograd.grad(cached_B.sum(), student_BUV)
    for row, name in enumerate(batch.ids):
        length = int(target.lengths_B[row])
        assert length == len(outputs[name].tokens) + 1
        ids_UK = by_probability(outputs[name].token_logits_UV, target.ids_BNK[row, :length])
        logq_UC = classes_of(outputs[name].token_logits_UV, ids_UK)
        logits_UV = student_BUV[row, :length].detach().requires_grad_()
        logp_UC = classes_of(logits_UV, ids_UK)
        q_UC = logq_UC.exp()
        used_UC = q_UC > 0
        live = (q_UC * (logq_UC - logp_UC)).where(used_UC, 0.0).sum()
        (live_UV,) = torch.autograd.grad(live, logits_UV)
        record = PosteriorRecord(logq_UC.float().numpy(), ids_UK.numpy().astype(np.int32))
        bound_UC = torch.from_numpy(cache.codec("decoder_logits").error_bound(record)).double()
        bound_UC = bound_UC.where(used_UC & bound_UC.isfinite(), 0.0)
        moved_UC = q_UC * torch.expm1(bound_UC)
        sizes_UC = logp_UC.detach().abs() + logq_UC.abs()
        loss_bound = (moved_UC * sizes_UC + q_UC * bound_UC.exp() * bound_UC).where(used_UC, 0.0)
        assert abs(float((cached_B[row] - live).detach())) <= float(loss_bound.sum()) + 1e-4
        # Each class moves by at most its own share, or that of the rest, and by what is moved
        # in all, which the softmax gives back.
        difference_U = (cached_BUV[row, :length] - live_UV).abs().sum(-1)
        assert (difference_U <= 2 * moved_UC.sum(-1) + 1e-5).all()
    assert float(cached_B.detach().max()) > 0.1
