"""Kinds of stages by name.

Built-in ones and third parties' are found the same way, as ``module:Class``; a third party adds
one by the entry point group ``kdcache.stages`` or by writing ``module:Class`` in a recipe.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from kdcache.errors import ConfigError, did_you_mean
from kdcache.pipeline.kind import StageKind

GROUP = "kdcache.stages"

_HERE = "kdcache.pipeline.kinds"

KINDS: dict[str, str] = {
    "corpus": f"{_HERE}.corpus:CorpusKind",
    "tokenizer": f"{_HERE}.tokenizer:TokenizerKind",
    "train": f"{_HERE}.train:TrainKind",
    "denominator": f"{_HERE}.denominator:DenominatorKind",
    "extract": f"{_HERE}.extract:ExtractKind",
    "pack": f"{_HERE}.pack:PackKind",
    "rescore": f"{_HERE}.rescore:RescoreKind",
    "latency": f"{_HERE}.latency:LatencyKind",
    "score": f"{_HERE}.score:ScoreKind",
    "table": f"{_HERE}.table:TableKind",
}


def kind_of(name: str) -> StageKind[Any]:
    """The kind that a recipe calls ``name``.

    Raises:
        ConfigError: nobody knows it, or it is no kind of stage.
    """
    target = name if ":" in name else _registered(name)
    module, _, attribute = target.partition(":")
    try:
        made = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"The kind of stage {name!r} cannot be imported ({error}); expected module:Class."
        ) from error
    if not (isinstance(made, type) and issubclass(made, StageKind)):
        raise ConfigError(f"{target} is no kind of stage: it must be a subclass of StageKind.")
    return made()


def _registered(name: str) -> str:
    if name in KINDS:
        return KINDS[name]
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    if name in others:
        return others[name]
    known = {*KINDS, *others}
    raise ConfigError(
        f"There is no kind of stage {name!r}; known are {', '.join(sorted(known))}."
        + did_you_mean(name, known)
    )
