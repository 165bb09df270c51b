"""log P of several label sequences from one transducer, shared prefixes multiplied out once.

The n best of a search differ in a few places. What a node says depends on its frame and on the
labels before it alone, so the joint network is asked for each frame and *distinct* prefix, a few
frames at a time: for blank, and for the label that leads to each longer prefix. From these two
tables each sequence's arcs are looked up, and the forward recursion does the rest.

Shapes: T encoder frames, P distinct prefixes (the empty one first, each after the one that it
lengthens), H sequences, U labels (a node axis has U+1 entries), J joint width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdcache.lattice import forward_backward
from kdcache.target.collapse import LOGIT_BUDGET, log_probabilities
from kdcache.target.nodes import chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.target.beam import Labels
    from kdcache.teacher.protocol import LatticeLogits, Predictor


def sequence_likelihoods(
    lattice: LatticeLogits,
    predictor: Predictor,
    sequences: Sequence[Labels],
    budget: int = LOGIT_BUDGET,
) -> list[float]:
    """log P of each label sequence, in nats; −inf if it has no path.

    Args:
        lattice: the teacher's, of which the encoder and the joint network are used.
        predictor: the teacher's prediction network.
        sequences: H of them; their ids are labels of the lattice.
        budget: logits that may be in memory at once; a single frame may have more.

    Raises:
        TeacherOutputError: NaN or +inf among the logits.
    """
    if not sequences:
        return []
    prefixes = _prefixes(sequences)
    states_PJ = prefix_states(predictor, prefixes)
    blank_TP, into_TP = _tables(replace(lattice, decoder_UJ=states_PJ), prefixes, budget)
    place = {prefix: at for at, prefix in enumerate(prefixes)}
    longest = max(map(len, sequences))
    rows = [[place[labels[:u]] for u in range(len(labels) + 1)] for labels in sequences]
    padded = [row + row[-1:] * (longest + 2 - len(row)) for row in rows]
    at_HU = torch.tensor(padded, device=blank_TP.device)
    lengths_H = torch.tensor([len(labels) for labels in sequences], device=blank_TP.device)
    found = forward_backward(
        blank_TP[:, at_HU[:, :-1]].movedim(0, 1),
        into_TP[:, at_HU[:, 1:]].movedim(0, 1),  # of a node the label that leads to the next
        torch.full_like(lengths_H, len(blank_TP)),
        lengths_H,
    )
    scores: list[float] = found.log_likelihood_B.tolist()
    return scores


def prefix_states(predictor: Predictor, prefixes: Sequence[Labels]) -> Tensor:
    """Outputs of the prediction network after each prefix, (P, J), all of a length at once.

    Args:
        predictor: the network.
        prefixes: as of this module's head.
    """
    output_1J, state = predictor.start()
    outputs, before = [output_1J], dict.fromkeys(prefixes[:1], 0)
    for length in range(1, len(prefixes[-1]) + 1):
        own = [prefix for prefix in prefixes if len(prefix) == length]
        parents = torch.tensor([before[p[:-1]] for p in own], device=output_1J.device)
        last = torch.tensor([p[-1] for p in own], device=output_1J.device)
        output_NJ, state = predictor.step(last, tuple(part[parents] for part in state))
        outputs.append(output_NJ)
        before = {prefix: row for row, prefix in enumerate(own)}
    return torch.cat(outputs)


def _prefixes(sequences: Sequence[Labels]) -> list[Labels]:
    """All distinct ones, by length, then by their labels."""
    every = {labels[:u] for labels in sequences for u in range(len(labels) + 1)}
    return sorted(every, key=lambda prefix: (len(prefix), prefix))


def _tables(
    lattice: LatticeLogits, prefixes: Sequence[Labels], budget: int
) -> tuple[Tensor, Tensor]:
    """Log-probability of blank after each prefix, and of the label that led to it after the one
    before, float32 (T, P) each; the latter means nothing for the empty prefix."""
    place = {prefix: at for at, prefix in enumerate(prefixes)}
    device = lattice.decoder_UJ.device
    parent_P = torch.tensor([place[prefix[:-1]] for prefix in prefixes], device=device)
    last_P = torch.tensor([p[-1] if p else lattice.blank for p in prefixes], device=device)
    blanks, labels = [], []
    for _, logits_TPV in chunks(lattice, budget):
        logp_TPV = log_probabilities(logits_TPV)
        blanks.append(logp_TPV[..., lattice.blank])
        labels.append(logp_TPV[:, parent_P, last_P])
    return torch.cat(blanks), torch.cat(labels)
