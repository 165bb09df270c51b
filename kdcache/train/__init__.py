"""The one training loop, under Ray Train."""

from __future__ import annotations

from kdcache.train.launch import run_training
from kdcache.train.metrics import note_of
from kdcache.train.settings import DataSettings, LossSettings, OptimSettings, TrainSettings

__all__ = [
    "DataSettings",
    "LossSettings",
    "OptimSettings",
    "TrainSettings",
    "note_of",
    "run_training",
]
