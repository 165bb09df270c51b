"""What a cache says of settings that a configuration leaves open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdcache.errors import SpecMismatchError
from kdcache.extract.codebooks import waits_for_codebooks
from kdcache.extract.goals import Asked
from kdcache.extract.tails import waits_for_tail

if TYPE_CHECKING:
    from kdcache.extract.goals import Wanted
    from kdcache.store import Choice
    from kdcache.store.header import Header
    from kdcache.types import TargetSpec


@dataclass(frozen=True, slots=True)
class Held:
    """A cache that was begun.

    Attributes:
        path: of the cache, for messages.
        header: of it.
    """

    path: str
    header: Header

    def settled(self, wanted: Wanted) -> TargetSpec:
        """What the cache has for this target.

        Raises:
            SpecMismatchError: it was begun with something else.
        """
        return self._chosen(wanted) if isinstance(wanted, Asked) else self._spelt_out(wanted)

    def _choice(self, name: str) -> Choice | None:
        return next((choice for choice in self.header.choices if choice.target == name), None)

    def _chosen(self, asked: Asked) -> TargetSpec:
        choice = self._choice(asked.name)
        if choice is None:
            raise SpecMismatchError(
                f"{self.path} was begun without max_kl for a target {asked.name!r}; leave it out "
                "and give the settings of the cache, or use another directory"
            )
        if choice.max_kl != asked.max_kl:
            raise self._other_settings(
                f"target {asked.name!r} was chosen for max_kl {choice.max_kl:g}, "
                f"{asked.max_kl:g} was asked for; give this goal again"
            )
        spec = self.header.spec.target(asked.name)
        if (choice.asked, spec.kind) != (asked.fixed, asked.base.kind):
            raise self._other_settings(
                f"beside max_kl, target {asked.name!r} was begun with {_shown(choice.asked)}, now "
                f"it has {_shown(asked.fixed)}; use these settings again"
            )
        return spec

    def _spelt_out(self, spec: TargetSpec) -> TargetSpec:
        """A target without a goal; a model that it asks for is the cache's of that kind."""
        held = next((t for t in self.header.spec.targets if t.name == spec.name), None)
        choice = self._choice(spec.name)
        if choice is not None and held is not None and not _same(held, spec):
            raise self._other_settings(
                f"target {spec.name!r} was chosen for max_kl {choice.max_kl:g}; give this goal "
                "again"
            )
        codec = {} if held is None else held.codec
        if waits_for_codebooks(spec):
            return replace(spec, codec={**spec.codec, "table": self._codebooks(spec, codec)})
        if waits_for_tail(spec):
            return replace(spec, codec={**spec.codec, "tail": self._tail(spec, codec)})
        return spec

    def _codebooks(self, spec: TargetSpec, held: dict[str, Any]) -> dict[str, Any]:
        asked = spec.codec
        if any(held.get(key) != asked[key] for key in ("name", "count")):
            raise self._other_settings(
                f"target {spec.name!r} has codec {held.get('name')!r} with count "
                f"{held.get('count')} in the cache, {asked['name']!r} with count "
                f"{asked['count']} was asked for; use these settings again"
            )
        table: dict[str, Any] = held["table"]
        return table

    def _tail(self, spec: TargetSpec, held: dict[str, Any]) -> dict[str, Any]:
        asked, found = spec.codec["tail"], held.get("tail")
        kind = found.get("kind") if isinstance(found, dict) else found
        if not isinstance(found, dict) or kind != asked:
            raise self._other_settings(
                f"the codec of target {spec.name!r} has tail {kind!r} in the cache, {asked!r} was "
                "asked for; use these settings again"
            )
        return found

    def _other_settings(self, what: str) -> SpecMismatchError:
        return SpecMismatchError(
            f"{self.path} was made with other settings: {what}, or use another directory"
        )


def _shown(fixed: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fixed.items() if value) or "nothing"


def _same(held: TargetSpec, given: TargetSpec) -> bool:
    """Whether ``given`` spells out what was chosen, a table by its kind or in full."""
    table = held.codec.get("tail")
    kind = table.get("kind") if isinstance(table, dict) else table
    named = {**held.codec, "tail": kind} if kind is not None else held.codec
    codecs = (held.codec, named)
    return (held.kind, held.settings) == (given.kind, given.settings) and given.codec in codecs
