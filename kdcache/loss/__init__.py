"""What a student is taught by: distillation losses over streamed targets.

Each loss takes the student's raw output and one target of ``kdcache.batch``, and gives a value
per utterance (``reduction="none"``), their sum or their mean. None of them hides a NaN.
"""

from __future__ import annotations

from kdcache.loss.align import (
    aligned_codebook_cross_entropy,
    aligned_posterior_kl,
    aligned_vector_mse,
)
from kdcache.loss.align_lattice import align_lattice, merge_frames, split_frames
from kdcache.loss.alignments import alignment_kl, best_path_kl
from kdcache.loss.classes import Nodes
from kdcache.loss.codebooks import codebook_cross_entropy
from kdcache.loss.confidence import confidence_penalty
from kdcache.loss.denominator import (
    Denominator,
    denominator_of,
    load_denominator,
    load_ngram,
    save_ngram,
)
from kdcache.loss.divergence import class_kl
from kdcache.loss.frames import FrameRatio, check_frames, parse_ratio, ratio_of_shifts
from kdcache.loss.full_sum import full_sum_distance
from kdcache.loss.graph_sum import graph_log_sum, graph_occupancy
from kdcache.loss.hypotheses import hypotheses_nll, hypothesis_weights
from kdcache.loss.lattice import TransducerKDLoss, lattice_kl, transducer_kd_loss
from kdcache.loss.lf_mmi import aligned_sequence_kd, lf_mmi_loss, sequence_kl
from kdcache.loss.live import collapse_lattice, full_lattice_kl, live_lattice_kl
from kdcache.loss.ngram import NGram, estimate_ngram
from kdcache.loss.normalise import LatticeNormalise, SequenceNormalise
from kdcache.loss.pairs import Group, Pairs, aligned_loss, pair_frames
from kdcache.loss.posterior import Rest, posterior_kl
from kdcache.loss.spread import spread_rest
from kdcache.loss.tokens import token_cross_entropy
from kdcache.loss.vector import vector_mse

__all__ = [
    "Denominator",
    "FrameRatio",
    "Group",
    "LatticeNormalise",
    "NGram",
    "Nodes",
    "Pairs",
    "Rest",
    "SequenceNormalise",
    "TransducerKDLoss",
    "align_lattice",
    "aligned_codebook_cross_entropy",
    "aligned_loss",
    "aligned_posterior_kl",
    "aligned_sequence_kd",
    "aligned_vector_mse",
    "alignment_kl",
    "best_path_kl",
    "check_frames",
    "class_kl",
    "codebook_cross_entropy",
    "collapse_lattice",
    "confidence_penalty",
    "denominator_of",
    "estimate_ngram",
    "full_lattice_kl",
    "full_sum_distance",
    "graph_log_sum",
    "graph_occupancy",
    "hypotheses_nll",
    "hypothesis_weights",
    "lattice_kl",
    "lf_mmi_loss",
    "live_lattice_kl",
    "load_denominator",
    "load_ngram",
    "merge_frames",
    "pair_frames",
    "parse_ratio",
    "posterior_kl",
    "ratio_of_shifts",
    "save_ngram",
    "sequence_kl",
    "split_frames",
    "spread_rest",
    "token_cross_entropy",
    "transducer_kd_loss",
    "vector_mse",
]
