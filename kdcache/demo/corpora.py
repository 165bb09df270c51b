"""The demo's speech: synthesised, or composed of recordings of people.

OUT/train.jsonl  OUT/test.jsonl     manifests
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.corpus.composed import compose_digits
from kdcache.corpus.synth import SynthSettings, synthesise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcache.demo.recipe import Recipe, SynthesisedCorpus


def make_corpus(recipe: Recipe, out: Path, progress: Callable[[int, int], None]) -> None:
    """Make the recipe's corpus, unless it is there already.

    Raises:
        InputError: the recordings that a real corpus is composed of are not there.
    """
    if recipe.synthesised is not None:
        _synthesise(recipe.synthesised, out, progress)
    elif recipe.real is not None:
        real = recipe.real
        hours = {"train": real.train, "test": real.test}
        compose_digits(out, hours, real.splits, real.seed)


def _synthesise(corpus: SynthesisedCorpus, out: Path, progress: Callable[[int, int], None]) -> None:
    settings = SynthSettings(
        kind=corpus.kind,
        splits={"train": corpus.train, "test": corpus.test},
        seed=corpus.seed,
        snr=corpus.snr,
        noises=corpus.noises,
    )
    synthesise(out, settings, on_progress=progress)
