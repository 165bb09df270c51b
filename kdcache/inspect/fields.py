"""What can be asked of an utterance's row in the catalogue, under names that people type.

    id  text  speaker  unit  duration  frames  labels
    lattice.kl_mean      a measure of a target
    kl_lattice           its mean divergence
    kl, nats_per_label   of the first target that has it

Rows are read in blocks and by column, so that a catalogue of any size takes little memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from kdcache.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from kdcache.store import Cache

BLOCK = 1 << 18
"""Rows that are looked at together."""

TEXTS = ("id", "text", "speaker", "unit")
NUMBERS = ("duration", "frames", "labels")
FIDELITY = "fidelity."
DIVERGENCES = ("kl_mean", "kl_full_mean", "source_kl_mean", "source_kl_full_mean")
"""What ``kl`` stands for, in this order."""


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that is known of each utterance.

    Attributes:
        name: in full, such as ``lattice.kl_mean``.
        column: of the catalogue.
        is_text: a string; else a number.
    """

    name: str
    column: str
    is_text: bool = False

    def of(self, rows: pa.Table) -> pa.Array | pa.ChunkedArray:
        """Its values in rows of the catalogue: string or float64, with nulls."""
        values = rows[self.column]
        if self.name == "labels":
            values = pc.list_value_length(values)
        return values.cast(pa.string() if self.is_text else pa.float64())


class Fields:
    """The fields of a cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._measures = [
            name.removeprefix(FIDELITY)
            for name in cache.catalogue_names
            if name.startswith(FIDELITY)
        ]

    @property
    def names(self) -> list[str]:
        """All fields in full; shorter names of measures are understood as well."""
        return [*TEXTS, *NUMBERS, *self._measures]

    def find(self, name: str) -> Field:
        """A field by its full name or a shorter one.

        Raises:
            ConfigError: there is no such field; the message names those that there are.
        """
        if name in TEXTS or name in NUMBERS:
            column = "tokens" if name == "labels" else name
            return Field(name, column, name in TEXTS)
        found = next((m for m in self._candidates(name) if m in self._measures), None)
        if found is None:
            hint = did_you_mean(name, [*self.names, *self._short_names()])
            raise ConfigError(
                f"no field {name!r} in the catalogue of {self._cache.location}; it has: "
                f"{', '.join(self.names)}.{hint}"
            )
        return Field(found, FIDELITY + found)

    def blocks(self, fields: Sequence[Field]) -> Iterator[tuple[int, pa.Table]]:
        """First row and values, block by block: a column a field, named in full."""
        rows = self._columns(fields)
        for start in range(0, rows.num_rows, BLOCK):
            block = rows.slice(start, BLOCK)
            yield start, pa.table({field.name: field.of(block) for field in fields})

    def take(self, rows_N: np.ndarray, fields: Sequence[Field]) -> list[dict[str, Any]]:
        """Values of some rows, by field."""
        rows = self._columns(fields).take(pa.array(rows_N, pa.int64()))
        values = pa.table({field.name: field.of(rows) for field in fields})
        found: list[dict[str, Any]] = values.to_pylist()
        return found

    def _columns(self, fields: Sequence[Field]) -> pa.Table:
        return self._cache.catalogue_columns(list(dict.fromkeys(f.column for f in fields)))

    def _candidates(self, name: str) -> list[str]:
        """Measures that a name may stand for, the likeliest first."""
        targets = [target.name for target in self._cache.spec.targets]
        if name == "kl":
            return [f"{target}.{measure}" for target in targets for measure in DIVERGENCES]
        if name.removeprefix("kl_") in targets:
            return [f"{name.removeprefix('kl_')}.{measure}" for measure in DIVERGENCES]
        return [name.removeprefix(FIDELITY), *(f"{target}.{name}" for target in targets)]

    def _short_names(self) -> list[str]:
        short = ["kl", *(f"kl_{target.name}" for target in self._cache.spec.targets)]
        return [*short, *(measure.rpartition(".")[2] for measure in self._measures)]
