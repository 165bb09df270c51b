"""What a cache is or will be made of, from a configuration: mistakes are found here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.corpus.table import UtteranceTable
    from kdcache.extract.config import ExtractConfig
    from kdcache.extract.errand import Scout, Survey
    from kdcache.store import CacheSpec, Choice
    from kdcache.types import TargetSpec


@dataclass(frozen=True, slots=True)
class Checked:
    """What the cache is or will be made of.

    Attributes:
        spec: of the cache.
        tokenizer_files: contents by name.
        choices: how settings came about that were chosen for a goal.
    """

    spec: CacheSpec
    tokenizer_files: dict[str, bytes]
    choices: tuple[Choice, ...]


def check_settings(
    config: ExtractConfig,
    corpus: UtteranceTable,
    watch: Callable[[Survey], None] = lambda _: None,
    scout: Scout | None = None,
    *,
    anew: bool = False,
) -> Checked:
    """What the cache is or will be made of, and the tokenizer's files.

    The teacher is loaded once here, on the CPU, which proves that it loads before anything
    is reserved or written.

    Args:
        config: of the extraction.
        corpus: from whose sample settings are found that are left open.
        watch: told how far a look at a sample is.
        scout: who takes that look; by default this process.
        anew: find again what was left open, because the cache's header cannot be read.

    Raises:
        InputError: a mistake in the teacher or the targets.
    """
    from kdcache.extract.errand import Errand
    from kdcache.extract.goals import Asked, parse_wanted
    from kdcache.extract.sample import sample_of
    from kdcache.extract.settle import scout_here, settle
    from kdcache.extract.targets import bind_targets

    wanted = parse_wanted(config.targets, config.max_kl)
    bases = tuple(item.base if isinstance(item, Asked) else item for item in wanted)
    spec, files = _spec_of(config, bases)
    bind_targets(bases, spec.teacher)
    spec.normalised()  # finds what no scout need be sent for
    sample = tuple(sample_of(corpus, config.sample_utterances))
    hours = float(corpus.durations.sum()) / 3600
    errand = Errand(config, spec.teacher, sample, hours)
    found = settle(wanted, errand, scout or scout_here, watch, anew=anew)
    return Checked(replace(spec, targets=found.targets).normalised(), files, found.choices)


def _spec_of(
    config: ExtractConfig, targets: tuple[TargetSpec, ...]
) -> tuple[CacheSpec, dict[str, bytes]]:
    """The spec with these targets, and the tokenizer's files; the teacher is let go."""
    from kdcache.extract.load import load_configured
    from kdcache.store import CacheSpec

    teacher = load_configured(config.teacher, "cpu")
    spec = CacheSpec(
        teacher=teacher.spec,
        tokenizer=teacher.tokenizer.fingerprint,
        targets=targets,
        audio=config.cache.audio,
    )
    return spec, teacher.tokenizer.files()
