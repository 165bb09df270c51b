"""The corpus as an extraction takes it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from kdcache.corpus.table import UtteranceTable, read_table
from kdcache.errors import SpecMismatchError
from kdcache.extract.plan import shown

if TYPE_CHECKING:
    from kdcache.corpus.tolerant import BadLine
    from kdcache.extract.config import ExtractConfig
    from kdcache.store import Cache


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the manifests hold.

    Attributes:
        utterances: with distinct ids, in the manifests' order.
        bad_lines: of the manifests, that were passed over because the settings say so.
    """

    utterances: UtteranceTable
    bad_lines: tuple[BadLine, ...] = ()


def read_corpus(config: ExtractConfig) -> Corpus:
    """All manifests, in order.

    Raises:
        ManifestError: one cannot be read or is empty; and, unless bad lines are to be skipped,
            one of its lines cannot be read or an id occurs twice.
    """
    from kdcache.corpus.tolerant import read_tolerantly

    if config.bad_lines == "skip":
        utterances, bad = read_tolerantly(config.manifests)
        return Corpus(UtteranceTable.of(utterances), tuple(bad))
    return Corpus(read_table(config.manifests))


def check_unchanged(corpus: UtteranceTable, cache: Cache) -> None:
    """A cached target was conditioned on its transcript: both must still belong together.

    Raises:
        SpecMismatchError: utterances whose transcript is another now, by id.
    """
    cached = cache.catalogue.select(["id", "text"])
    names = cached["id"].cast(pa.large_string()).combine_chunks()
    rows = pc.index_in(corpus.ids, value_set=names)
    texts = pc.take(cached["text"].cast(pa.large_string()), rows)
    other = pc.fill_null(pc.not_equal(texts, corpus.texts), False)
    changed: list[str] = corpus.ids.filter(other).to_pylist()
    if changed:
        raise SpecMismatchError(
            f"{cache.location} holds {len(changed)} utterance(s) with another transcript than the "
            f"corpus has now: {shown(changed)}. Give changed utterances new ids, or extract into "
            "a new cache."
        )
