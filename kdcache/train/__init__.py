"""The one training loop, under Ray Train."""

from __future__ import annotations

from kdcache.train.data_settings import DataSettings
from kdcache.train.launch import run_training
from kdcache.train.metrics import note_of
from kdcache.train.settings import LossSettings, OptimSettings, TrainSettings
from kdcache.train.tune import tune_trainable
from kdcache.train.validation_settings import ValidationSettings

__all__ = [
    "DataSettings",
    "LossSettings",
    "OptimSettings",
    "TrainSettings",
    "ValidationSettings",
    "note_of",
    "run_training",
    "tune_trainable",
]
