"""RNN-T mathematics in torch: forward-backward, occupancies, bands, the loss, alignments.

It knows nothing of teachers or caches: tensors in, tensors out.
"""

from __future__ import annotations

from kdcache.lattice.band import Band, BandRule
from kdcache.lattice.banded import rnnt_loss_banded, transducer_nll_banded
from kdcache.lattice.classes import class_log_probs
from kdcache.lattice.factored import FactoredLogits, Logits, node_class_log_probs
from kdcache.lattice.lengths import node_mask
from kdcache.lattice.nodes import node_classes, node_ids, node_log_probs, top_classes
from kdcache.lattice.occupancy import arc_occupancy, node_occupancy
from kdcache.lattice.reduction import Reduction
from kdcache.lattice.scan import ForwardBackward, forward_backward
from kdcache.lattice.transducer import rnnt_loss, transducer_nll
from kdcache.lattice.viterbi import BestPath, best_path

__all__ = [
    "Band",
    "BandRule",
    "BestPath",
    "FactoredLogits",
    "ForwardBackward",
    "Logits",
    "Reduction",
    "arc_occupancy",
    "best_path",
    "class_log_probs",
    "forward_backward",
    "node_class_log_probs",
    "node_classes",
    "node_ids",
    "node_log_probs",
    "node_mask",
    "node_occupancy",
    "rnnt_loss",
    "rnnt_loss_banded",
    "top_classes",
    "transducer_nll",
    "transducer_nll_banded",
]
