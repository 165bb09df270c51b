"""The sizes of the demo: two YAML files beside this one, each a whole recipe.

``synthesised.yaml`` needs no network and no data; ``real.yaml`` composes digit strings from
recordings of people.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from kdcache.config import Settings, load_config
from kdcache.corpus.synth.settings import NOISES
from kdcache.student.settings import StudentSettings
from kdcache.train.settings import LossSettings, OptimSettings


class SynthesisedCorpus(Settings):
    """A corpus from espeak-ng; see ``kdcache corpus synth``."""

    kind: str = "sentences"
    """Sentences or digits."""

    train: int = Field(ge=1)
    """Utterances to train on."""

    test: int = Field(ge=1)
    """Utterances to score on."""

    snr: tuple[float, float]
    """Signal-to-noise ratio, dB."""

    noises: tuple[str, ...] = NOISES
    """Kinds of noise."""

    seed: int = 7
    """Of every choice."""


class RealCorpus(Settings):
    """Digit strings composed of single recorded digits."""

    train: float = Field(gt=0)
    """Hours to train on."""

    test: float = Field(gt=0)
    """Hours to score on."""

    splits: str = "splits_takes.json"
    """Which recordings belong to which split."""

    seed: int = 7
    """Of every choice."""


class ModelRecipe(Settings):
    """One model and how it is trained."""

    student: StudentSettings
    """Its sizes."""

    optim: OptimSettings
    """Its optimiser."""

    loss: LossSettings = LossSettings()
    """What it minimises; for the student from the cache."""

    batch_seconds: float = Field(default=48.0, gt=0)
    """Padded seconds of a micro-batch."""

    hours: float | None = None
    """Of the training set, how much this model may see; all if left out."""


class Recipe(Settings):
    """A demo."""

    synthesised: SynthesisedCorpus | None = None
    """The corpus, if it is synthesised."""

    real: RealCorpus | None = None
    """The corpus, if it is real."""

    vocabulary: int = Field(ge=2)
    """Tokens of the SentencePiece model."""

    model_type: str = "unigram"
    """Kind of SentencePiece model."""

    teacher: ModelRecipe
    """The large model."""

    student: ModelRecipe
    """The small one; it is trained twice, with and without the loss's teacher terms."""

    targets: tuple[dict[str, Any], ...]
    """What the cache keeps."""

    seed: int = 0
    """Of all training."""


def load_recipe(name: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe ``synthesised`` or ``real``, with settings overridden."""
    return load_config(Path(__file__).parent / f"{name}.yaml", Recipe, overrides)
