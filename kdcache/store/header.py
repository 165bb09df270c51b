"""``kdcache.json``: what a cache is, written once when it is created."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcache.codec import ColumnSpec
from kdcache.errors import DamagedCacheError, NewerFormatError, NotACacheError
from kdcache.store.choice import Choice
from kdcache.store.files import FileRecord
from kdcache.store.seal import seal, unseal
from kdcache.store.spec import DTYPES, FORMAT_VERSION, CacheSpec
from kdcache.version import __version__

if TYPE_CHECKING:
    from kdcache.store.storage import Storage

HEADER = "kdcache.json"
TOKENIZER = "tokenizer"


@dataclass(frozen=True, slots=True)
class Header:
    """What ``kdcache.json`` says.

    Attributes:
        layout: ``zarr`` or ``webdataset``.
        spec: what the cache is made of.
        columns: the stored arrays by name, so that a reader needs no codec to find them.
        tokenizer_files: the files below ``tokenizer/``.
        kdcache_version: that created the cache.
        choices: how settings of targets came about that nobody wrote by hand.
    """

    layout: str
    spec: CacheSpec
    columns: dict[str, ColumnSpec]
    tokenizer_files: tuple[FileRecord, ...]
    kdcache_version: str = __version__
    choices: tuple[Choice, ...] = ()

    def to_bytes(self) -> bytes:
        """The file; without choices it is as it was before there were any."""
        choices = {"choices": [choice.to_dict() for choice in self.choices]}
        return seal(
            {
                **(choices if self.choices else {}),
                "format": "kdcache",
                "format_version": self.spec.format_version,
                "kdcache_version": self.kdcache_version,
                "layout": self.layout,
                "spec": self.spec.to_dict(),
                "spec_hash": self.spec.spec_hash,
                "columns": {name: column.to_dict() for name, column in self.columns.items()},
                "tokenizer_files": [record.to_dict() for record in self.tokenizer_files],
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Header:
        """Read the file.

        Raises:
            DamagedCacheError: its checksum does not match, or it says what cannot be.
            NewerFormatError: a newer kdcache wrote it. How this file is sealed stays the
                same in every format, so that damage is never taken for a newer one.
        """
        value = unseal(raw, HEADER)
        version = value.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise NewerFormatError(
                f"the cache has format {version}, this kdcache {__version__} reads up to "
                f"{FORMAT_VERSION}: update kdcache"
            )
        try:
            header = cls._parse(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedCacheError(f"{HEADER}: {error!r} while reading it") from error
        if header.spec.spec_hash != value["spec_hash"]:
            raise DamagedCacheError(f"{HEADER}: the spec's hash does not match the spec")
        return header

    @classmethod
    def _parse(cls, value: dict[str, Any]) -> Header:
        return cls(
            layout=value["layout"],
            spec=CacheSpec.from_dict(value["spec"]),
            columns={name: _parse_column(spec) for name, spec in value["columns"].items()},
            tokenizer_files=tuple(FileRecord.from_dict(v) for v in value["tokenizer_files"]),
            kdcache_version=value["kdcache_version"],
            choices=tuple(Choice.from_dict(v) for v in value.get("choices", ())),
        )


def _parse_column(value: dict[str, Any]) -> ColumnSpec:
    if value["dtype"] not in DTYPES or value["ndim"] < 1:
        raise ValueError(f"no column can be {value!r}")
    return ColumnSpec(value["dtype"], int(value["ndim"]), bool(value["optional"]))


def load_header(storage: Storage) -> Header:
    """The header of the cache.

    Raises:
        NotACacheError: there is none.
        DamagedCacheError, NewerFormatError: see :meth:`Header.from_bytes`.
    """
    try:
        raw = storage.read(HEADER)
    except FileNotFoundError:
        raise NotACacheError(
            f"{storage.location} holds no cache: expected a directory with a {HEADER}, as made by "
            "`kdcache extract`"
        ) from None
    return Header.from_bytes(raw)
