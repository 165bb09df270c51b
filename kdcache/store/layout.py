"""What the two layouts have in common: a shard is one file, and columns lie whole in it.

A layout only writes. Readers go from the catalogue's byte offsets to mapped slices, so the
same code reads both, and neither container is ever parsed on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kdcache.codec import ColumnSpec
    from kdcache.store.packed import PackedUtterance

    Build = Callable[[Sequence[PackedUtterance], Mapping[str, ColumnSpec]], "Shard"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard's bytes.

    Attributes:
        data: the file.
        offsets: for each utterance, where each of its columns starts in the file.
    """

    data: bytes
    offsets: list[dict[str, int]]


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to lay utterances out in one file: its name, the file's suffix, its writer."""

    name: str
    suffix: str
    build: Build


def make_layout(name: str) -> Layout:
    """The layout of that name, ``zarr`` or ``webdataset``; ConfigError for another."""
    # Imported here: zarr alone takes longer to import than a cache takes to open.
    if name == "zarr":
        from kdcache.store.zarr_layout import build_zarr

        return Layout("zarr", ".zarr.zip", build_zarr)
    if name == "webdataset":
        from kdcache.store.webdataset_layout import build_webdataset

        return Layout("webdataset", ".tar", build_webdataset)
    hint = did_you_mean(name, ("zarr", "webdataset"))
    raise ConfigError(f"expected layout 'zarr' or 'webdataset', got {name!r}.{hint}")


def metadata_of(item: PackedUtterance) -> dict[str, Any]:
    """What a shard says of an utterance beside its columns, for readers without a catalogue."""
    return {
        "id": item.utterance.id,
        "text": item.utterance.text,
        "speaker": item.utterance.speaker,
        "tokens": [int(token) for token in item.tokens],
        "duration": float(item.duration),
    }
