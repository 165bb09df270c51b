"""What targets leave open is found out once: from a sample, or from the cache that is there.

The same command that began a cache goes on with it. It finds its goals again in the cache and
takes the settings that were chosen for them; other goals, or other settings that were fixed,
are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.errors import NotACacheError
from kdcache.extract.codebooks import waits_for_codebooks
from kdcache.extract.errand import Settled, Survey
from kdcache.extract.goals import Asked
from kdcache.extract.held import Held
from kdcache.extract.tails import waits_for_tail
from kdcache.store.header import load_header
from kdcache.store.places import open_storage
from kdcache.store.storage import probe_exclusive_create
from kdcache.store.writer import check_vacant
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.extract.errand import Errand, Scout, Watch
    from kdcache.extract.goals import Wanted
    from kdcache.store.header import Header
    from kdcache.store.storage import Storage


def settle(
    wanted: Sequence[Wanted], errand: Errand, scout: Scout, watch: Watch, *, anew: bool = False
) -> Settled:
    """The targets without anything open.

    Args:
        wanted: the targets of the errand's configuration.
        errand: for the scout.
        scout: is sent only where something is open and no cache says what it is.
        watch: told how far it is, and what was chosen.
        anew: do not look at the cache, whose header cannot be read.

    Raises:
        SpecMismatchError: the cache was begun with other goals, fixed settings or models.
        NotACacheError: something else is in its place.
        UnfitStorageError: it would lie where commits are not safe.
        ConfigError, TeacherError: see :func:`~kdcache.extract.survey.survey`.
    """
    path = errand.config.cache.path
    header = None if anew else _header(path)
    if header is not None:
        held = Held(path, header)
        return Settled(tuple(map(held.settled, wanted)), header.choices)
    if not any(map(_is_open, wanted)):
        return Settled(tuple(item for item in wanted if isinstance(item, TargetSpec)))
    if not anew:
        _check_place(open_storage(path))
    settled = scout(errand, watch)
    if settled.choices:
        count = len(settled.choices)
        watch(Survey("choosing settings", "targets", count, count, settled.choices))
    return settled


def scout_here(errand: Errand, watch: Watch) -> Settled:
    """Run the errand in this process, on the CPU."""
    from kdcache.extract.load import load_configured
    from kdcache.extract.survey import survey

    teacher = load_configured(errand.config.teacher, "cpu")
    steps = survey(errand, teacher)
    while True:
        try:
            watch(next(steps))
        except StopIteration as end:
            found: Settled = end.value
            return found


def _is_open(item: Wanted) -> bool:
    return isinstance(item, Asked) or waits_for_tail(item) or waits_for_codebooks(item)


def _check_place(storage: Storage) -> None:
    """Before a teacher listens for minutes: nothing else is there, and commits are safe there. A
    directory is tried when the cache is made, so that a survey that fails leaves none behind."""
    check_vacant(storage)
    if storage.folder is None:
        probe_exclusive_create(storage)


def _header(path: str) -> Header | None:
    """Of the cache that is there; its shards may be damaged, and are not looked at."""
    try:
        return load_header(open_storage(path))
    except NotACacheError:
        return None
