"""Where a stream's examples come from: a cache with teacher targets, or a bare corpus."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kdcache.corpus import decode_flac, load_audio, resample
from kdcache.errors import ConfigError, TokenizerError, did_you_mean
from kdcache.stream.buffers import Buffers
from kdcache.stream.catalogue import Integers, Strings
from kdcache.stream.collate import collate
from kdcache.stream.join import check_length, join_corpus
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
    from kdcache.stream.join import OnOtherText
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

    @property
    def frame_shift(self) -> float | None:
        """Seconds between two frames of the targets; ``None`` where there are none."""
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

    frame_shift = None

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
        on_other_text: see :func:`kdcache.stream.join.join_corpus`.

    Raises:
        ConfigError: a target that the cache does not hold.
        ManifestError: utterances of the cache that the corpus lacks, or has with another duration
            or text, by name; the length of decoded audio is compared when it is.
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
        on_other_text: OnOtherText = "raise",
    ) -> None:
        self._cache = cache
        self._targets = _check_targets(cache, targets)
        if tokenizer is not None:
            check_tokenizer(cache, tokenizer)
        self._sample_rate = sample_rate or cache.spec.teacher.sample_rate
        self._buffers = Buffers()
        self.frame_shift = cache.spec.teacher.frame_shift
        table = cache.catalogue_columns(["id", "text", "tokens", "duration"])
        self._ids = table.column("id")
        self._names, self._texts = Strings(self._ids), Strings(table.column("text"))
        self._tokens = Integers(table.column("tokens"))
        self.durations = table.column("duration").to_numpy().astype(np.float64)
        self._audio = None if corpus is None else join_corpus(table, corpus, on_other_text)

    @cached_property
    def snapshot(self) -> str:
        """Digest of the spec and of all ids in order; worked out when a position is saved."""
        return _digest_of_ids(self._cache.spec.spec_hash, self._ids)

    def has_utterances_of(self, other: CacheSource) -> bool:
        """Whether both hold the same utterances, by id."""
        same: bool = self._ids.equals(other._ids)
        return same

    def load(self, row: int) -> Example:
        """The utterance of ``row`` with its targets, checksums verified."""
        records = {name: self._cache.read_target(row, name) for name in self._targets}
        return replace(self._bare([row])[0], targets=records)

    def load_batch(self, rows: Sequence[int]) -> Batch:
        """Utterances with their targets, decoded straight into the batch."""
        packed = self._cache.read_packed_rows(rows, self._targets)
        targets = {
            name: collate_packed(self._cache.codec(name), parts, self._buffers.empty)
            for name, parts in packed.items()
        }
        return collate(self._bare(rows), targets)

    def _bare(self, rows: Sequence[int]) -> list[Example]:
        """The utterances without their targets."""
        own = (column.take(rows) for column in (self._names, self._texts, self._tokens))
        return [Example(*fields) for fields in zip(*own, map(self._samples, rows), strict=True)]

    def _samples(self, row: int) -> np.ndarray | None:
        if self._audio is not None:
            samples = load_audio(self._audio[row].audio, self._sample_rate)
            heard = float(self.durations[row])
            check_length(self._ids[row].as_py(), len(samples), self._sample_rate, heard)
            return samples
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

    @property
    def frame_shift(self) -> float | None:
        """As the source's."""
        return self._source.frame_shift

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
