"""A cache's utterances joined with the corpus that their audio is taken from, by id.

What was said and how long it took must be what the teacher heard; otherwise its targets belong to
something else. A view that the corpus has no line for is made from the utterance that it is a
view of (``kdcache.corpus.views``), so that its audio has the speed at which the teacher heard it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from kdcache.corpus import read_manifest
from kdcache.corpus.views import parse_view, view_of
from kdcache.errors import ConfigError, ManifestError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from kdcache.types import Utterance

OnOtherText = Literal["raise", "keep"]

TOLERANCE = 0.05
"""Seconds by which audio may be longer or shorter than what the teacher heard: manifests round, and
a frame more or less is borne."""

_BLOCK = 65_536
"""Rows that are Python values at once, however many the cache has."""

_SHOWN = 5


def join_corpus(
    catalogue: pa.Table, corpus: str | Path, on_other_text: OnOtherText = "raise"
) -> list[Utterance]:
    """The corpus's utterances in the order of the catalogue's rows.

    Args:
        catalogue: ``id``, ``text`` and ``duration`` of the cache's utterances.
        corpus: a manifest; where it gives no text or no duration, that is not compared.
        on_other_text: ``raise`` where a text differs; or ``keep`` the cache's, which the teacher
            was conditioned on.

    Raises:
        ManifestError: utterances that the corpus lacks, or has with another duration or text, by
            name.
        ConfigError: ``on_other_text`` is unknown.
    """
    known = get_args(OnOtherText)
    if on_other_text not in known:
        hint = did_you_mean(on_other_text, known)
        choices = " or ".join(known)
        raise ConfigError(f"on_other_text is {on_other_text!r}; expected {choices}.{hint}")
    by_id = {utterance.id: utterance for utterance in read_manifest(corpus)}
    found: list[Utterance] = []
    missing, lasting, saying = [], [], []
    for name, text, seconds in _rows(catalogue):
        utterance = _find(by_id, name)
        if utterance is None:
            missing.append(name)
            continue
        found.append(utterance)
        if utterance.duration and abs(utterance.duration - seconds) > TOLERANCE:
            lasting.append(f"{name} ({seconds:.3f} s in the cache, {utterance.duration:.3f} s)")
        if utterance.text and utterance.text != text:
            saying.append(f"{name} ({text!r} in the cache, {utterance.text!r})")
    count = len(catalogue)
    _refuse(missing, count, f"are not in {corpus}")
    _refuse(lasting, count, f"have another duration in {corpus}")
    if on_other_text == "raise":
        _refuse(saying, count, f"have another text in {corpus}", _KEEP)
    return found


def check_length(name: str, samples: int, rate: int, seconds: float) -> None:
    """Raise ManifestError, by name, unless decoded audio is as long as what the teacher heard.

    Args:
        name: id of the utterance.
        samples: that were decoded.
        rate: Hz of these.
        seconds: of the catalogue.
    """
    if abs(samples / rate - seconds) > TOLERANCE:
        raise ManifestError(
            f"The audio of utterance {name!r} is {samples / rate:.3f} s long, and its teacher "
            f"heard {seconds:.3f} s: the cache's targets belong to other audio. {_GIVE}"
        )


def _find(by_id: dict[str, Utterance], name: str) -> Utterance | None:
    """The utterance, or the view that is made from it."""
    if name in by_id:
        return by_id[name]
    view = parse_view(name)
    if view is None or view[0] not in by_id:
        return None
    return view_of(by_id[view[0]], view[1])


def _rows(catalogue: pa.Table) -> Iterator[tuple[str, str, float]]:
    for start in range(0, len(catalogue), _BLOCK):
        block = catalogue.slice(start, _BLOCK)
        columns = (block.column(name).to_pylist() for name in ("id", "text", "duration"))
        yield from zip(*columns, strict=True)


def _refuse(wrong: Sequence[str], count: int, what: str, more: str = "") -> None:
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (", …" if len(wrong) > _SHOWN else "")
        raise ManifestError(
            f"{len(wrong)} of the cache's {count} utterances {what}: {shown}. {_GIVE}{more}"
        )


_GIVE = "Give the manifest that the cache was extracted from."
_KEEP = " To go on with the cache's texts, set data.on_other_text to keep."
