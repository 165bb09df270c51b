"""Targets: which part of a teacher's belief is kept, and what that loses.

    lattice          a transducer's nodes: blank, next label, top-k more, rest
    encoder_logits   posteriors of encoder frames: a few classes and rest, or random draws
    decoder_logits   posteriors of an attention decoder's tokens: the same
    hidden           the encoder's last hidden states
    full_sum         log P(y | x) of the transcript
    hypotheses       the n best label sequences of a beam search, with their log P
    features         the teacher's input features

A target reduces on the teacher's device, packs with a codec, unpacks, and says what was lost.
"""

from __future__ import annotations

from kdcache.target.protocol import Reduced, Target
from kdcache.target.registry import make_target, target_kinds, target_spec

__all__ = ["Reduced", "Target", "make_target", "target_kinds", "target_spec"]
