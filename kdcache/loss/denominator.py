"""The denominator graph: all label sequences with an n-gram's weight, in CTC's topology.

A state is what an n-gram's history and CTC need to know: the history h, and whether the last frame
was a blank or h's last label. From (h, ·) a frame may be

    blank                  → (h, blank)      weight 1
    h's last label again   → (h, label)      weight 1, if the last frame was that label
    any label v            → (h v, label)    weight P(v | h); h's last label only after a blank

and the end has weight P(end | h). So each sequence of T classes is one path or none, its weight is
the n-gram's probability of the labels that it stands for, and the weights of all alignments of one
label sequence are equal. (Povey et al. 2016, "Purely sequence-trained neural networks for ASR based
on lattice-free MMI", with CTC's topology for their phones'; Graves et al. 2006 for the topology.)

Shapes: S states, H histories, L labels, V classes, which are the labels and blank, the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdcache.errors import ConfigError, InputError
from kdcache.loss.ngram import NGram

MOST_STATES = 8192
"""A dense matrix of so many states is half a gigabyte."""

_ARRAYS = ("order", "tokenizer", "last_H", "logp_HL", "next_HL")


@dataclass(frozen=True, slots=True, eq=False)
class Denominator:
    """A graph over frames, dense: all tensors float64 but where it says otherwise.

    Attributes:
        weight_SS: of going from a row's state to a column's.
        start_S: of the state after the first frame.
        end_S: of ending in a state.
        empty: weight of no frame at all.
        class_S: int64, the class of a frame that leads to a state.
        class_SV: the same as rows with a 1 at the class.
        ngram: what it was made of.
    """

    weight_SS: Tensor
    start_S: Tensor
    end_S: Tensor
    empty: float
    class_S: Tensor
    class_SV: Tensor
    ngram: NGram

    @property
    def classes(self) -> int:
        """V."""
        return int(self.class_SV.shape[1])

    def label_log_probs(self, labels_BU: Tensor, lengths_B: Tensor) -> Tensor:
        """Natural logarithm of the n-gram's probability of each label sequence: float64 (B,)."""
        rows = zip(labels_BU.tolist(), lengths_B.tolist(), strict=True)
        values = [self.ngram.log_prob(row[:length]) for row, length in rows]
        return torch.tensor(values, dtype=torch.float64, device=self.end_S.device)


def denominator_of(ngram: NGram, device: torch.device | str = "cpu") -> Denominator:
    """The graph of an n-gram.

    Raises:
        ConfigError: it has more states than a dense matrix should.
    """
    histories, labels = ngram.next_HL.shape
    if 2 * histories > MOST_STATES:
        raise ConfigError(
            f"The denominator has {2 * histories} states, at most {MOST_STATES} are possible; "
            "give the n-gram a lower order, or the tokenizer fewer tokens."
        )
    # State h is history h after its label, state H + h after a blank.
    weight_SS = np.zeros((2 * histories, 2 * histories))
    p_HL, rows = np.exp(ngram.logp_HL), np.arange(histories)
    for label in range(labels):
        np.add.at(weight_SS, (histories + rows, ngram.next_HL[:, label]), p_HL[:, label])
        others = rows[ngram.last_H != label]
        np.add.at(weight_SS, (others, ngram.next_HL[others, label]), p_HL[others, label])
    weight_SS[rows, rows] += 1.0
    weight_SS[np.concatenate([rows, histories + rows]), np.tile(histories + rows, 2)] += 1.0
    # Nothing leads to the beginning after "its label", so that its class does not matter.
    last_H = np.maximum(ngram.last_H, 0)
    class_S = torch.from_numpy(np.concatenate([last_H, np.full(histories, labels)])).to(device)
    return Denominator(
        weight_SS=torch.from_numpy(weight_SS).to(device),
        # The first frame follows nothing, which is as if it followed a blank.
        start_S=torch.from_numpy(weight_SS[histories].copy()).to(device),
        end_S=torch.from_numpy(np.tile(p_HL[:, labels], 2)).to(device),
        empty=float(p_HL[0, labels]),
        class_S=class_S,
        class_SV=torch.nn.functional.one_hot(class_S, labels + 1).double(),
        ngram=ngram,
    )


def save_ngram(ngram: NGram, path: str | Path) -> Path:
    """Write an n-gram to a file (``.npz``, no pickle in it); equal n-grams, equal bytes."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        arrays: dict[str, Any] = {name: np.asarray(getattr(ngram, name)) for name in _ARRAYS}
        np.savez(stream, **arrays)
    return file


def load_ngram(path: str | Path) -> NGram:
    """Read what :func:`save_ngram` wrote.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            order, tokenizer, *rest = (arrays[name] for name in _ARRAYS)
        ngram = NGram(int(order), str(tokenizer), *rest)
        _check(ngram)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(
            f"{path} is no denominator ({error}); make one with kdcache.loss.save_ngram or a "
            "pipeline's `denominator` stage."
        ) from error
    return ngram


def _check(ngram: NGram) -> None:
    """Raise ValueError unless the arrays fit one another and point at what is there."""
    histories, labels = ngram.next_HL.shape
    if ngram.logp_HL.shape != (histories, labels + 1) or ngram.last_H.shape != (histories,):
        raise ValueError("its arrays do not fit one another")
    inside = ngram.next_HL.min() >= 0 and ngram.next_HL.max() < histories
    if not inside or ngram.last_H.max() >= labels:
        raise ValueError("it points at histories or labels that it does not have")


@lru_cache(maxsize=4)
def load_denominator(path: str | Path, device: str = "cpu") -> Denominator:
    """The graph of the n-gram in a file, made once a process.

    Raises:
        InputError: the file holds none.
        ConfigError: it has too many states.
    """
    return denominator_of(load_ngram(path), device)
