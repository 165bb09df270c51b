"""Repair with a teacher at hand: damaged units are set aside and extracted again.

Everything that can be wrong with the settings is found before anything is set aside, so that
sound utterances are never taken out of sight by a command that cannot bring them back.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kdcache.corpus.table import among
from kdcache.errors import ConfigError, SpecMismatchError
from kdcache.extract.check import check_settings
from kdcache.extract.driver import ray_scout, run_extract
from kdcache.extract.intake import read_corpus
from kdcache.extract.plan import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.extract.config import ExtractConfig
    from kdcache.extract.errand import Survey
    from kdcache.extract.report import ExtractReport
    from kdcache.extract.tally import Snapshot
    from kdcache.store import Findings


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was found and done.

    Attributes:
        cache: where it is.
        findings: the damage.
        restored: files that all units share and that were written again, or, of the index,
            are done without.
        set_aside: where the commits of the damaged units are kept now.
        awaited: units that were set aside, now or before, and whose utterances are not back.
        extraction: what the extraction afterwards made; ``None`` where there was none.
    """

    cache: str
    findings: Findings
    restored: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    extraction: ExtractReport | None = None

    @property
    def whole(self) -> bool:
        """Whether everything that was ever found damaged is sound and visible again."""
        return not self.unmended and not self.awaited

    @property
    def unmended(self) -> list[str]:
        """Damaged files that all units share and that nothing here could write again."""
        return sorted({item.file for item in self.findings.common} - set(self.restored))

    def lines(self) -> list[str]:
        """The report for people: each damage, what was set aside, and the extraction's."""
        lines = [
            f"{item.file}{f', utterance {item.utterance}' if item.utterance else ''}: {item.what}"
            for item in self.findings.damage
        ]
        lines += [
            f"{file}: {'left aside' if file.startswith('index/') else 'written again'}"
            for file in self.restored
        ]
        for unit in self.findings.units:
            held = "utterances" if unit.utterances is None else _counted(unit.utterances)
            lines.append(f"unit {unit.unit}: set aside with its {held}")
        if self.extraction is not None:
            lines += self.extraction.lines()
        return lines or [f"{self.cache}: no damage"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        units = [
            {
                "unit": unit.unit,
                "utterances": None if unit.utterances is None else list(unit.utterances),
            }
            for unit in self.findings.units
        ]
        return {
            "cache": self.cache,
            "whole": self.whole,
            "damage": [
                {"file": item.file, "utterance": item.utterance, "what": item.what}
                for item in self.findings.damage
            ],
            "units": units,
            "restored": list(self.restored),
            "set_aside": list(self.set_aside),
            "awaited": list(self.awaited),
            "extraction": None if self.extraction is None else self.extraction.to_dict(),
        }


def run_repair(
    cache: str,
    findings: Findings,
    config: ExtractConfig | None = None,
    watch: Callable[[Snapshot], None] = lambda _: None,
    survey: Callable[[Survey], None] = lambda _: None,
) -> RepairReport:
    """Set damaged units aside; with the settings of the extraction, do them again.

    No extraction may write to the cache meanwhile. Killed anywhere, the same steps go on.

    Args:
        cache: its path or URL.
        findings: of ``find_damage``.
        config: settings of the extraction that made it; ``None`` only sets aside.
        watch: told how far the extraction is.
        survey: told how far a look at a sample is, where the header is lost and told what had
            been found by one.

    Raises:
        InputError: settings that are not the cache's; nothing was changed.
        StorageError: the storage failed.
    """
    from kdcache.store import awaited_units, drop_damaged_index, set_aside
    from kdcache.store.header import HEADER

    if config is not None:
        check_same_cache(cache, config)
    restored = _restored(cache, config, findings, survey) if config and findings.damage else []
    restored += drop_damaged_index(cache, findings)
    aside = set_aside(cache, findings.units)
    if HEADER in {item.file for item in findings.common} - set(restored):
        # Nobody can tell what is in the cache until its header is written again.
        return RepairReport(cache, findings, tuple(restored), tuple(aside))
    awaited = awaited_units(cache)
    done = None
    if config and awaited:
        done = run_extract(config, watch, survey)
        awaited = awaited_units(cache)
    return RepairReport(
        cache, findings, tuple(restored), tuple(aside), tuple(awaited), extraction=done
    )


def _restored(
    cache: str, config: ExtractConfig, findings: Findings, survey: Callable[[Survey], None]
) -> list[str]:
    """Check the settings against the cache; files that had to be written for that."""
    from kdcache.store import create_or_open, restore_header
    from kdcache.store.header import HEADER

    headless = HEADER in {item.file for item in findings.common}
    with ExitStack() as session:
        scout = ray_scout(config, session)
        checked = check_settings(
            config, read_corpus(config).utterances, survey, scout, anew=headless
        )
    _check_corpus(config, findings)
    made_with = (checked.spec, config.cache.layout, checked.tokenizer_files)
    restored = restore_header(cache, *made_with, checked.choices)
    create_or_open(cache, *made_with)
    return restored


def _check_corpus(config: ExtractConfig, findings: Findings) -> None:
    """What is set aside must be in the corpus, or it would not come back."""
    known = read_corpus(config).utterances.ids
    damaged = [i for unit in findings.units for i in unit.utterances or ()]
    there = among(pa.chunked_array([pa.array(damaged, pa.large_string())]), known)
    lost = [name for name, found in zip(damaged, there, strict=True) if not found]
    if lost:
        raise SpecMismatchError(
            f"{len(lost)} utterance(s) of the damaged shards are not in the corpus, so that they "
            f"could not be extracted again: {shown(lost)}. Nothing was changed; name the corpus "
            "that the cache was made from"
        )


def _counted(ids: tuple[str, ...]) -> str:
    return f"{len(ids)} utterances ({shown(ids)})"


def check_same_cache(cache: str, config: ExtractConfig) -> None:
    """ConfigError where the configuration is about another cache."""
    if not _same_place(cache, config.cache.path):
        raise ConfigError(
            f"the configuration is about the cache {config.cache.path}, not {cache}; "
            "give its own configuration, or --set cache.path"
        )


def _same_place(one: str, other: str) -> bool:
    if "://" in one or "://" in other:
        return one.rstrip("/") == other.rstrip("/")
    return Path(one).resolve() == Path(other).resolve()
