"""How other projects keep a teacher's posteriors, written anew from their descriptions.

Each function takes the log-probabilities of an utterance and gives the bytes that the project
would store for it and the dense distribution that its reader gets, the rest spread evenly
where it keeps any. Headers, containers and keys are left out: what is compared is the payload.

Shapes: T frames, V vocabulary, K kept classes, D terms of a polynomial.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import partial

import numpy as np

Representation = Callable[[np.ndarray], tuple[int, np.ndarray]]

_TINY = 1e-30


def tinyvit(logp_TV: np.ndarray, k: int) -> tuple[int, np.ndarray]:
    """k × (int16 id, fp16 probability); what is missing to 1 is the rest."""
    ids_TK, p_TK = _top(logp_TV, k)
    p_TK = p_TK.astype(np.float16).astype(np.float64)
    return ids_TK.size * 4, _spread(ids_TK, p_TK, logp_TV.shape[1])


def distillkit_exact(logp_TV: np.ndarray, k: int) -> tuple[int, np.ndarray]:
    """k × (fp16 log-probability, id of ⌈log2 V⌉ bits)."""
    ids_TK, p_TK = _top(logp_TV, k)
    bits = int(np.ceil(np.log2(logp_TV.shape[1])))
    p_TK = np.exp(_half(np.log(p_TK)))
    return ids_TK.shape[0] * (2 * k + -(-k * bits // 8)), _spread(ids_TK, p_TK, logp_TV.shape[1])


def distillkit(logp_TV: np.ndarray, k: int, exact: int, terms: int) -> tuple[int, np.ndarray]:
    """The first ``exact`` as fp16, the others a polynomial in the rank, fitted in each frame.

    Ranks are normalised to [0, 1] and the terms are fp32, without which it errs by nats.
    """
    ids_TK, p_TK = _top(logp_TV, k)
    logp_TK = np.log(p_TK)
    rank = np.linspace(0, 1, k - exact)
    powers = rank[:, None] ** np.arange(terms)
    fitted = np.linalg.lstsq(powers, logp_TK[:, exact:].T, rcond=None)[0].astype(np.float32)
    logp_TK[:, exact:] = np.minimum((powers @ fitted).T, logp_TK[:, exact - 1 : exact])
    logp_TK[:, :exact] = _half(logp_TK[:, :exact])
    bits = int(np.ceil(np.log2(logp_TV.shape[1])))
    size = ids_TK.shape[0] * (2 * exact + 4 * terms + -(-k * bits // 8))
    return size, _spread(ids_TK, np.exp(logp_TK), logp_TV.shape[1])


def megatron(logp_TV: np.ndarray, k: int) -> tuple[int, np.ndarray]:
    """k × (fp16 log-probability, 17-bit id), zstd over the utterance."""
    from numcodecs.zstd import Zstd

    ids_TK, p_TK = _top(logp_TV, k)
    half_TK = np.log(p_TK).astype(np.float16)
    bits = (ids_TK.reshape(-1, 1) >> np.arange(17) & 1).astype(np.uint8)
    size = sum(len(Zstd(level=3).encode(part)) for part in (half_TK.tobytes(), np.packbits(bits)))
    return size, _spread(ids_TK, np.exp(half_TK.astype(np.float64)), logp_TV.shape[1])


def nemo_aligner(logp_TV: np.ndarray, k: int) -> tuple[int, np.ndarray]:
    """A line of JSON an utterance: top-k log-probabilities, ids and the log-sum-exp."""
    ids_TK, p_TK = _top(logp_TV, k)
    logp_TK = np.log(p_TK).astype(np.float32)
    line = {
        "topk_logits": logp_TK.tolist(),
        "topk_ids": ids_TK.tolist(),
        "log_sum_exp": [0.0] * len(ids_TK),
    }
    return len(json.dumps(line)) + 1, _spread(ids_TK, np.exp(logp_TK), logp_TV.shape[1])


def lilcom_dense(logp_TV: np.ndarray, power: int) -> tuple[int, np.ndarray]:
    """All classes, in steps of 2^power nats, normalised on reading."""
    import lilcom

    packed = lilcom.compress(logp_TV.copy(), tick_power=power)
    return len(packed), _normalised(lilcom.decompress(packed).astype(np.float64))


def half_dense(logp_TV: np.ndarray) -> tuple[int, np.ndarray]:
    """All classes as fp16, as of FKD or SpeechBrain."""
    return logp_TV.size * 2, _normalised(logp_TV.astype(np.float16).astype(np.float64))


def representations(vocabulary: int) -> dict[str, Representation]:
    """Every peer at several sizes, by name."""
    found: dict[str, Representation] = {}
    for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        if k > vocabulary:
            break
        found[f"TinyViT top-{k}"] = partial(tinyvit, k=k)
        found[f"DistillKit exact {k}"] = partial(distillkit_exact, k=k)
        found[f"Megatron top-{k}"] = partial(megatron, k=k)
        found[f"NeMo-Aligner top-{k}"] = partial(nemo_aligner, k=k)
        if k >= 32:
            found[f"DistillKit k={k} polynomial"] = partial(distillkit, k=k, exact=4, terms=3)
            found[f"DistillKit k={k} recommended"] = partial(distillkit, k=k, exact=16, terms=6)
    if importlib.util.find_spec("lilcom"):
        for power in (2, 1, 0, -1, -2, -3, -5):
            found[f"lilcom dense 2^{power}"] = partial(lilcom_dense, power=power)
    found["dense fp16"] = half_dense
    return found


def _top(logp_TV: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    ids_TK = np.argsort(-logp_TV, axis=-1, kind="stable")[:, :k]
    p_TK = np.exp(np.take_along_axis(logp_TV, ids_TK, -1).astype(np.float64))
    return ids_TK, np.maximum(p_TK, _TINY)


def _half(logp: np.ndarray) -> np.ndarray:
    return logp.astype(np.float16).astype(np.float64)


def _spread(ids_TK: np.ndarray, p_TK: np.ndarray, vocabulary: int) -> np.ndarray:
    """Dense log-probabilities; a rest that rounding has made negative is next to nothing."""
    left = max(1, vocabulary - ids_TK.shape[1])
    rest_T = np.maximum(1 - p_TK.sum(-1), 1e-7)
    dense_TV = np.repeat(rest_T[:, None] / left, vocabulary, axis=1)
    np.put_along_axis(dense_TV, ids_TK, np.maximum(p_TK, _TINY), -1)
    return _normalised(np.log(dense_TV))


def _normalised(logp_TV: np.ndarray) -> np.ndarray:
    dense: np.ndarray = logp_TV - np.log(np.exp(logp_TV).sum(-1, keepdims=True))
    return dense
