"""A tiny corpus that a tiny model can learn: each word is a pitch, spelt in characters."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdcache.corpus import encode_flac, to_int16, train_sentencepiece, write_manifest
from kdcache.types import AudioRef, Utterance

RATE = 16_000
PITCHES = {"low": 300.0, "mid": 900.0, "high": 2400.0}
WORD_SECONDS = 0.3


def write_tones(folder: str | Path, count: int = 24) -> Path:
    """Write ``train.jsonl`` (``count`` utterances of 1 to 3 words) and ``tokenizer/``.

    Every call makes the same samples. Utterances are called ``tone-00``, ``tone-01``, ….
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(0)
    utterances = [_write_utterance(path, index, random) for index in range(count)]
    write_manifest(path / "train.jsonl", utterances)
    texts = [utterance.text for utterance in utterances]
    train_sentencepiece(texts, 14, "char").save(path / "tokenizer")
    return path


def _write_utterance(folder: Path, index: int, random: np.random.RandomState) -> Utterance:
    words = [str(random.choice(list(PITCHES))) for _ in range(1 + index % 3)]
    times = np.arange(int(WORD_SECONDS * RATE)) / RATE
    tones = [0.3 * np.sin(2 * np.pi * PITCHES[word] * times) for word in words]
    samples = np.concatenate(tones) + 0.01 * random.randn(len(times) * len(words))
    file = folder / f"{index:02d}.flac"
    file.write_bytes(encode_flac(to_int16(samples), RATE))
    audio = AudioRef(str(file), duration=len(samples) / RATE)
    return Utterance(f"tone-{index:02d}", audio, " ".join(words), speaker=f"s{index % 2}")
