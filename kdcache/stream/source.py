"""Where a stream's examples come from: a cache with teacher targets, or a bare corpus."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kdcache.corpus import decode_flac, load_audio, read_manifest, resample
from kdcache.errors import ConfigError, ManifestError, TokenizerError, did_you_mean
from kdcache.stream.collate import collate
from kdcache.stream.packed import collate_packed
from kdcache.types import canonical_json, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from kdcache.batch import Batch
    from kdcache.codec.records import Record
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.store import Cache
    from kdcache.types import Utterance

_BLOCK = 65_536
"""Ids that are Python strings at once, however many the cache has."""


@dataclass(frozen=True, slots=True)
class Example:
    """One utterance in numpy, before it is padded into a batch.

    Attributes:
        id, text: as in the manifest.
        tokens: int64 (U,) label ids.
        audio: float32 (N,) samples in [−1, 1], or ``None`` where none is streamed.
        targets: decoded records by target name; empty for a bare corpus.
    """

    id: str
    text: str
    tokens: np.ndarray
    audio: np.ndarray | None
    targets: dict[str, Record] = field(default_factory=dict)


class Source(Protocol):
    """Random access to examples by catalogue row."""

    @property
    def snapshot(self) -> str:
        """Digest of which utterances, in which order: what a saved position refers to."""
        ...

    @property
    def durations(self) -> np.ndarray:
        """float64 seconds by row."""
        ...

    def load(self, row: int) -> Example:
        """Decode one row. May be called from several threads."""
        ...

    def load_batch(self, rows: Sequence[int]) -> Batch:
        """Rows, at least one, as a padded batch."""
        ...


class CorpusSource:
    """A manifest without a cache: what a teacher, or a student without one, trains on.

    Args:
        utterances: in any order; rows are sorted by id.
        tokenizer: spells the transcripts.
        sample_rate: Hz of the samples to give.
    """

    def __init__(
        self,
        utterances: Iterable[Utterance],
        tokenizer: Tokenizer,
        sample_rate: int,
    ) -> None:
        self._rows = sorted(utterances, key=lambda u: u.id)
        self._tokenizer = tokenizer
        self._sample_rate = sample_rate
        self.durations = np.array([u.duration for u in self._rows], np.float64)
        self.snapshot = fingerprint_of([u.id for u in self._rows])

    def load(self, row: int) -> Example:
        """The utterance of ``row``, decoded and spelt."""
        utterance = self._rows[row]
        tokens = np.array(self._tokenizer.encode(utterance.text), np.int64)
        audio = load_audio(utterance.audio, self._sample_rate)
        return Example(utterance.id, utterance.text, tokens, audio)

    def load_batch(self, rows: Sequence[int]) -> Batch:
        """Utterances, decoded, spelt and padded."""
        return collate([self.load(row) for row in rows])


class CacheSource:
    """A cache's utterances with the targets asked for, joined with their audio.

    Ids, texts and labels stay in the catalogue's columns and become Python values row by row:
    of a million rows as of ten, only the durations are copied.

    Args:
        cache: an open cache.
        targets: names of the targets to decode.
        corpus: manifest to take audio from, by utterance id; ``None`` takes it from the
            cache where it holds any and streams none otherwise.
        sample_rate: Hz of the samples to give; the teacher's if ``None``.
        tokenizer: the student's, checked against the cache's.

    Raises:
        ConfigError: a target that the cache does not hold.
        ManifestError: utterances of the cache that the corpus lacks, by name.
        TokenizerError: the cache was made with another tokenizer.
    """

    def __init__(
        self,
        cache: Cache,
        targets: Sequence[str],
        *,
        corpus: str | Path | None = None,
        sample_rate: int | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._cache = cache
        self._targets = _check_targets(cache, targets)
        if tokenizer is not None:
            check_tokenizer(cache, tokenizer)
        self._sample_rate = sample_rate or cache.spec.teacher.sample_rate
        table = cache.catalogue_columns(["id", "text", "tokens", "duration"])
        self._ids, self._texts = table.column("id"), table.column("text")
        self._tokens = table.column("tokens")
        self.durations = table.column("duration").to_numpy().astype(np.float64)
        self._audio = None if corpus is None else _join(self._ids, corpus)

    @cached_property
    def snapshot(self) -> str:
        """Digest of the spec and of all ids in order; worked out when a position is saved."""
        return _digest_of_ids(self._cache.spec.spec_hash, self._ids)

    def load(self, row: int) -> Example:
        """The utterance of ``row`` with its targets, checksums verified."""
        records = {name: self._cache.read_target(row, name) for name in self._targets}
        return replace(self._bare(row), targets=records)

    def load_batch(self, rows: Sequence[int]) -> Batch:
        """Utterances with their targets, decoded straight into the batch."""
        parts = [self._cache.read_packed(row, self._targets) for row in rows]
        targets = {
            name: collate_packed(self._cache.codec(name), [part[name] for part in parts])
            for name in self._targets
        }
        return collate([self._bare(row) for row in rows], targets)

    def _bare(self, row: int) -> Example:
        """The utterance without its targets."""
        tokens = np.array(self._tokens[row].as_py(), np.int64)
        name, text = self._ids[row].as_py(), self._texts[row].as_py()
        return Example(name, text, tokens, self._samples(row))

    def _samples(self, row: int) -> np.ndarray | None:
        if self._audio is not None:
            return load_audio(self._audio[row].audio, self._sample_rate)
        if self._cache.spec.audio == "none":
            return None
        samples, rate = decode_flac(self._cache.audio(row))
        return resample(samples, rate, self._sample_rate)


class KeptSource:
    """A source that is decoded once: each example stays in memory, for small corpora.

    Args:
        source: where examples come from at first.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: dict[int, Example] = {}
        self.snapshot, self.durations = source.snapshot, source.durations

    def load(self, row: int) -> Example:
        """The utterance of ``row``, decoded when it is first asked for."""
        if row not in self._kept:
            self._kept[row] = self._source.load(row)
        return self._kept[row]

    def load_batch(self, rows: Sequence[int]) -> Batch:
        """Utterances, each decoded when it is first asked for, padded."""
        return collate([self.load(row) for row in rows])


def check_tokenizer(cache: Cache, tokenizer: Tokenizer) -> None:
    """Raise TokenizerError unless ``tokenizer`` is the one that the cache was made with."""
    if tokenizer.fingerprint != cache.spec.tokenizer:
        raise TokenizerError(
            f"The student's tokenizer ({tokenizer.vocab_size} tokens, fingerprint "
            f"{tokenizer.fingerprint[:12]}) is not the one of the cache {cache.location} "
            f"({cache.spec.tokenizer[:12]}): class ids would not match. Use the tokenizer in "
            f"{cache.tokenizer_dir}."
        )


def _check_targets(cache: Cache, names: Sequence[str]) -> tuple[str, ...]:
    known = [target.name for target in cache.spec.targets]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"The cache {cache.location} holds no target {name!r}; it has "
                f"{', '.join(known)}.{did_you_mean(name, known)}"
            )
    return tuple(names)


def _blocks(ids: pa.ChunkedArray) -> Iterator[list[str]]:
    for start in range(0, len(ids), _BLOCK):
        yield ids.slice(start, _BLOCK).to_pylist()


def _digest_of_ids(spec_hash: str, ids: pa.ChunkedArray) -> str:
    """``fingerprint_of([spec_hash, ids])``, to which saved positions refer, block by block."""
    digest = hashlib.sha256(f"[{canonical_json(spec_hash)},[".encode())
    for number, block in enumerate(_blocks(ids)):
        digest.update(b"," if number else b"")
        digest.update(canonical_json(block)[1:-1].encode())
    digest.update(b"]]")
    return digest.hexdigest()


def _join(ids: pa.ChunkedArray, corpus: str | Path) -> list[Utterance]:
    """The corpus's utterances in the order of ``ids``."""
    by_id = {utterance.id: utterance for utterance in read_manifest(corpus)}
    missing = [name for block in _blocks(ids) for name in block if name not in by_id]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ManifestError(
            f"{len(missing)} of the cache's {len(ids)} utterances are not in {corpus}: {shown}. "
            "Give the manifest that the cache was extracted from."
        )
    return [by_id[name] for block in _blocks(ids) for name in block]
