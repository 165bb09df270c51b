"""The corpus as an extraction takes it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdcache.errors import SpecMismatchError
from kdcache.extract.plan import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kdcache.corpus.tolerant import BadLine
    from kdcache.extract.config import ExtractConfig
    from kdcache.store import Cache
    from kdcache.types import Utterance


@dataclass(frozen=True, slots=True)
class Corpus:
    """What the manifests hold.

    Attributes:
        utterances: with distinct ids, in the manifests' order.
        bad_lines: of the manifests, that were passed over because the settings say so.
    """

    utterances: tuple[Utterance, ...]
    bad_lines: tuple[BadLine, ...] = ()


def read_corpus(config: ExtractConfig) -> Corpus:
    """All manifests, in order.

    Raises:
        ManifestError: one cannot be read or is empty; and, unless bad lines are to be skipped,
            one of its lines cannot be read or an id occurs twice.
    """
    from kdcache.corpus.manifest import read_manifest, refuse_duplicates
    from kdcache.corpus.tolerant import read_tolerantly

    if config.bad_lines == "skip":
        utterances, bad = read_tolerantly(config.manifests)
        return Corpus(tuple(utterances), tuple(bad))
    corpus = tuple(u for path in config.manifests for u in read_manifest(path))
    refuse_duplicates(corpus, ", ".join(map(str, config.manifests)))
    return Corpus(corpus)


def check_unchanged(corpus: Iterable[Utterance], cache: Cache) -> None:
    """A cached target was conditioned on its transcript: both must still belong together.

    Raises:
        SpecMismatchError: utterances whose transcript is another now, by id.
    """
    rows = cache.catalogue.select(["id", "text"]).to_pylist()
    texts = {row["id"]: row["text"] for row in rows}
    changed = [u.id for u in corpus if texts.get(u.id, u.text) != u.text]
    if changed:
        raise SpecMismatchError(
            f"{cache.location} holds {len(changed)} utterance(s) with another transcript than the "
            f"corpus has now: {shown(changed)}. Give changed utterances new ids, or extract into "
            "a new cache."
        )
