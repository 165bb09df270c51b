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

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from kdcache.batch import Batch
from kdcache.corpus import load_audio
from kdcache.errors import InputError
from kdcache.lattice import forward_backward, node_log_probs, node_mask, node_occupancy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

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
    sums = torch.zeros(5, dtype=torch.float64)
    frames_told, done = True, 0
    for batch in _batches(student, utterances, batch_size):
        output = student(batch)
        if output.joint is None:
            raise InputError(
                f"Got a student of kind {student.kind}, expected a transducer, whose nodes have "
                "entropies."
            )
        logits = output.frame_logits()
        frames_told = frames_told and logits is not None
        if logits is not None:
            sums[:2] += frame_sums(logits, output.frames_B)
        sums[2:] += _node_sums(output, batch, student.blank)
        done += len(batch)
        if progress is not None:
            progress(done, len(utterances))
    frames, counted, joint, nodes, places = sums.tolist()
    total = float(sum(1 for _ in ())) + counted
    return Entropies(
        frames / total if frames_told else None,
        joint,
        nodes / places,
    )
