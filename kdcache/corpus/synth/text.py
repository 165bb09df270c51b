"""What is said: sentences of a small seeded grammar, or strings of digits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import yaml

from kdcache.corpus.synth.rng import pick, pick_early
from kdcache.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SLOT = re.compile(r"\{(\w+)\}")
_ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class Grammar:
    """Word classes, most frequent word first, and sentence patterns that name them."""

    classes: dict[str, tuple[str, ...]]
    patterns: tuple[str, ...]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word that a sentence may hold, sorted."""
        outside = [_SLOT.sub(" ", pattern) for pattern in self.patterns]
        inside = [text for words in self.classes.values() for text in words]
        return tuple(sorted({word for text in outside + inside for word in text.split()}))

    def sentence(self, rng: np.random.RandomState) -> str:
        """One sentence: lower-case words, blanks and apostrophes."""
        return _SLOT.sub(
            lambda slot: pick_early(rng, self.classes[slot.group(1)]), pick(rng, self.patterns)
        )


@cache
def load_grammar() -> Grammar:
    """The grammar that ships with the package."""
    raw = yaml.safe_load(resources.files(__package__).joinpath("grammar.yaml").read_text("utf-8"))
    classes = {name: tuple(words) for name, words in raw["classes"].items()}
    return Grammar(classes, tuple(raw["patterns"]))


def make_text(kind: str, words: tuple[int, int], rng: np.random.RandomState) -> str:
    """A text of ``words[0]`` to ``words[1]`` words.

    Raises:
        ConfigError: the grammar has no sentence of such a length.
    """
    low, high = words
    if kind == "digits":
        return " ".join(pick(rng, DIGITS) for _ in range(rng.randint(low, high + 1)))
    for _ in range(_ATTEMPTS):
        text = load_grammar().sentence(rng)
        if low <= len(text.split()) <= high:
            return text
    raise ConfigError(f"The grammar has no sentence of {low} to {high} words; try 4:10.")
