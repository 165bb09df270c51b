"""How sure a transducer is: entropies of its encoder's own posteriors and of its nodes'.

CoDERT (arXiv 2106.07734) distils the encoder's logits because they keep what the encoder takes
one for another, which the joint network, knowing the labels before, has decided already: of
softmax(e_t) the entropy should be the greater.

    H_enc = mean over frames t of H(softmax(e_t))
    H_joint = Σ_{t,u} o_{t,u} H(p(· | t, u)) ÷ Σ_{t,u} o_{t,u}

where o is the probability that the student's alignments of the transcript pass the node. Over all
nodes alike the mean would be one of places at which no alignment ever is; it is given as well.

Shapes: B batch, T encoder frames, U labels, V vocabulary with blank.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch

from kdcache.errors import InputError
from kdcache.lattice import forward_backward, node_log_probs, node_occupancy
from kdcache.stream import CorpusSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from kdcache.batch import Batch
    from kdcache.student import Student, StudentOutput
    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class Entropies:
    """Means in nats.

    Attributes:
        encoder: of frames; ``None`` where the encoder has neither logits of its own nor a CTC head.
        joint: of nodes, each weighted by its occupancy.
        nodes: of all nodes alike.
    """

    encoder: float | None
    joint: float
    nodes: float

    def figures(self) -> dict[str, float]:
        """By name, those that there are: ``entropy_encoder`` and so on."""
        return {f"entropy_{k}": v for k, v in asdict(self).items() if v is not None}


@torch.inference_mode()
def measure_entropies(
    student: Student,
    utterances: Sequence[Utterance],
    *,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Entropies:
    """Entropies over a corpus with transcripts.

    Args:
        student: a transducer, in evaluation mode.
        utterances: what it hears.
        batch_size: utterances heard together, neighbours in duration.
        progress: called with utterances done and in all.

    Raises:
        InputError: there are no utterances, or the student is no transducer.
        AudioError: an utterance's audio cannot be read.
    """
    if not utterances:
        raise InputError("The manifest holds no utterances; there is nothing to measure.")
    sums, done, told = torch.zeros(6, dtype=torch.float64), 0, True
    for batch in _batches(student, utterances, batch_size):
        output = student(batch)
        _check(student, output)
        logits_BTV = output.frame_logits()
        told = told and logits_BTV is not None
        for row, labels in enumerate(batch.label_lengths_B.tolist()):
            frames = int(output.frames_B[row])
            if logits_BTV is not None:
                sums[0] += entropy_of(logits_BTV[row, :frames]).sum().cpu()
            sums[1] += frames
            sums[2:] += _of_lattice(output, batch.labels_BU[row, :labels], row, student.blank)
        done += len(batch)
        if progress is not None:
            progress(done, len(utterances))
    encoder, frames, joint, occupied, nodes, count = sums.tolist()
    return Entropies(encoder / frames if told else None, joint / occupied, nodes / count)


def entropy_of(logits_XV: Tensor) -> Tensor:
    """Entropy of softmax(logits) over the last axis, float64 nats (X)."""
    entropy_X: Tensor = torch.special.entr(logits_XV.double().softmax(-1)).sum(-1)
    return entropy_X


def lattice_entropies(logits_TUV: Tensor, labels_U: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Entropy and occupancy of every node of one utterance: float64 (T, U+1) each.

    Args:
        logits_TUV: the student's.
        labels_U: int64.
        blank: class id of blank.
    """
    frames, columns = logits_TUV.shape[:2]
    lengths = (torch.tensor([frames]), torch.tensor([columns - 1]))
    arcs = node_log_probs(logits_TUV[None].double(), labels_U[None], blank, *lengths)
    occupancy_TU = node_occupancy(forward_backward(*arcs, *lengths))[0]
    return entropy_of(logits_TUV), occupancy_TU


def _of_lattice(output: StudentOutput, labels_U: Tensor, row: int, blank: int) -> Tensor:
    """Of one utterance: entropies by occupancy, occupancies, entropies, each summed; nodes."""
    assert output.encoder_BTJ is not None
    assert output.decoder_BUJ is not None
    frames, columns = int(output.frames_B[row]), len(labels_U) + 1
    cut = slice(row, row + 1)
    one = replace(
        output,
        encoder_BTJ=output.encoder_BTJ[cut, :frames],
        decoder_BUJ=output.decoder_BUJ[cut, :columns],
    )
    logits_TUV = one.lattice_logits()[0].cpu()
    entropy_TU, occupancy_TU = lattice_entropies(logits_TUV, labels_U.cpu(), blank)
    nodes = torch.ones_like(entropy_TU)
    parts = (entropy_TU * occupancy_TU, occupancy_TU, entropy_TU, nodes)
    return torch.stack([part.sum() for part in parts])


def _check(student: Student, output: StudentOutput) -> None:
    if output.encoder_BTJ is None or output.decoder_BUJ is None or output.joint is None:
        raise InputError(
            f"Got a student of kind {student.kind}, expected a transducer, whose nodes have "
            "entropies."
        )


def _batches(student: Student, utterances: Sequence[Utterance], batch_size: int) -> Iterator[Batch]:
    """Neighbours in duration, spelt and padded."""
    source = CorpusSource(utterances, student.tokenizer, student.sample_rate)
    rows = sorted(range(len(utterances)), key=lambda row: float(source.durations[row]))
    for start in range(0, len(rows), batch_size):
        yield source.load_batch(rows[start : start + batch_size]).to(student.device)
