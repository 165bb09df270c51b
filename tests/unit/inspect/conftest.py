"""A small cache of random posteriors, whose catalogue has something to choose from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kdcache.store import create_or_open, open_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from kdcache.store import Cache

SPEAKERS = ("ada", None, "bob", "ada")


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Twelve utterances in two units: durations 1, 2, … 12, divergences of all but u03."""
    path = tmp_path_factory.mktemp("sampled") / "cache"
    spec = sample_spec()
    writer = create_or_open(path, spec, "zarr", TOKENIZER_FILES)
    items = [sample_packed(writer.spec, f"u{number:02d}") for number in range(12)]
    items = [
        replace(
            item,
            utterance=replace(item.utterance, speaker=SPEAKERS[number % 4]),
            duration=float(number + 1),
            tokens=[5] * (number + 1),
            frames=10 * number,
            fidelity={} if number == 3 else {
                "lattice.kl_mean": 0.001 * ((number * 5) % 12),
                "encoder_logits.kl_full_mean": 0.5,
            },
        )
        for number, item in enumerate(items)
    ]  # fmt: skip
    writer.commit("a" * 64, items[:5], [], "test")
    writer.commit("b" * 64, items[5:], [], "test")
    return open_cache(path)
