"""The synthesised corpus: multi-voice English from espeak-ng, seeded, with noise and rooms."""

from __future__ import annotations

from kdcache.corpus.synth.build import synthesise
from kdcache.corpus.synth.settings import (
    SynthSettings,
    parse_int_range,
    parse_range,
    parse_splits,
)

__all__ = ["SynthSettings", "parse_int_range", "parse_range", "parse_splits", "synthesise"]
