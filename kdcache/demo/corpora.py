"""The demo's speech: synthesised, or composed of recordings of people.

OUT/train.jsonl  OUT/test.jsonl     manifests
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.corpus.synth import SynthSettings, synthesise
from kdcache.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.demo.recipe import RealCorpus, Recipe, SynthesisedCorpus

DATA_VARIABLE = "KDCACHE_DATA"
DEFAULT_DATA = "../shared/data"


def make_corpus(recipe: Recipe, out: Path, progress: Callable[[int, int], None]) -> None:
    """Make the recipe's corpus, unless it is there already.

    Raises:
        InputError: the recordings that a real corpus is composed of are not there.
    """
    if recipe.synthesised is not None:
        _synthesise(recipe.synthesised, out, progress)
    elif recipe.real is not None and not (out / "summary.json").is_file():
        _compose(recipe.real, out)


def _synthesise(corpus: SynthesisedCorpus, out: Path, progress: Callable[[int, int], None]) -> None:
    settings = SynthSettings(
        kind=corpus.kind,
        splits={"train": corpus.train, "test": corpus.test},
        seed=corpus.seed,
        snr=corpus.snr,
        noises=corpus.noises,
    )
    synthesise(out, settings, on_progress=progress)


def _compose(corpus: RealCorpus, out: Path) -> None:
    """Run the recordings' own composer; its choices depend on the seed alone."""
    data = Path(os.environ.get(DATA_VARIABLE, DEFAULT_DATA))
    script = data / "make_strings.py"
    if not script.is_file():
        raise InputError(
            f"The real demo composes digit strings from recordings, and {script} is not there; "
            f"set {DATA_VARIABLE} to the folder that holds it, or run `kdcache demo` without "
            "--real."
        )
    command = [
        sys.executable,
        str(script),
        *("--out", str(out)),
        *("--digits", str(data / "digits")),
        *("--hours", f"train={corpus.train},test={corpus.test}"),
        *("--seed", str(corpus.seed)),
        *("--speakers", str(data / "digits" / corpus.splits)),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise InputError(f"{script} failed: {found.stderr.strip().splitlines()[-1]}")
