"""Utterances written for other toolkits."""

from __future__ import annotations

from kdcache.corpus.exporters.lhotse_cuts import Attached, write_lhotse
from kdcache.corpus.exporters.nemo import Pseudo, write_pseudo_labels

__all__ = ["Attached", "Pseudo", "write_lhotse", "write_pseudo_labels"]
