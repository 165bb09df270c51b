"""What a student is taught by: distillation losses over streamed targets.

Each loss takes the student's raw output and one target of ``kdcache.batch``, and gives a value
per utterance (``reduction="none"``), their sum or their mean. None of them hides a NaN.
"""

from __future__ import annotations

from kdcache.loss.classes import Nodes
from kdcache.loss.codebooks import codebook_cross_entropy
from kdcache.loss.divergence import class_kl
from kdcache.loss.full_sum import full_sum_distance
from kdcache.loss.hypotheses import hypotheses_nll, hypothesis_weights
from kdcache.loss.lattice import TransducerKDLoss, lattice_kl, transducer_kd_loss
from kdcache.loss.live import collapse_lattice, full_lattice_kl, live_lattice_kl
from kdcache.loss.normalise import LatticeNormalise, SequenceNormalise
from kdcache.loss.posterior import Rest, posterior_kl
from kdcache.loss.spread import spread_rest
from kdcache.loss.vector import vector_mse

__all__ = [
    "LatticeNormalise",
    "Nodes",
    "Rest",
    "SequenceNormalise",
    "TransducerKDLoss",
    "class_kl",
    "codebook_cross_entropy",
    "collapse_lattice",
    "full_lattice_kl",
    "full_sum_distance",
    "hypotheses_nll",
    "hypothesis_weights",
    "lattice_kl",
    "live_lattice_kl",
    "posterior_kl",
    "spread_rest",
    "transducer_kd_loss",
    "vector_mse",
]
