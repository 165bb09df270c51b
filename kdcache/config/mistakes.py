"""pydantic's report → sentences that a user can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kdcache.config.document import Document, Location, describe
from kdcache.config.schema import fields_of, known_names, known_paths, locate
from kdcache.errors import ConfigError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel, ValidationError

Mistake = tuple[Location, str]
"""Where, and the sentence."""

_PLAIN = {
    "path_type": "should be a path",
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping",
    "tuple_type": "should be a list",
}
"""Words of YAML for what pydantic says in words of Python."""

SHOWN = 5
"""Mistakes that one message tells; more are counted."""


def config_error(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    overrides: Mapping[Location, str],
) -> ConfigError:
    """One error that tells all mistakes, each with its place.

    Args:
        error: what pydantic found.
        model: the model that the settings were checked against.
        document: the file that they came from.
        overrides: ``--set`` arguments by the location that each one sets.
    """
    found = [_sentence(details, model) for details in error.errors(include_url=False)]
    found.sort(key=lambda mistake: document.line_of(mistake[0]) or 0)
    told = dict.fromkeys(
        _place(path, document, overrides) + sentence
        for path, sentence in _joined(_without_echoes(found))
    )
    return ConfigError(_message(list(told), document.name))


def _without_echoes(mistakes: list[Mistake]) -> list[Mistake]:
    """A misspelt setting is not also told as a missing one, nor a list with a bad item as bad.

    The latter comes of values that may be one thing or a list of them.
    """
    hints = " ".join(sentence for _, sentence in mistakes if sentence.startswith("unknown"))
    above = {path[:end] for path, _ in mistakes for end in range(len(path))}
    return [
        (path, sentence)
        for path, sentence in mistakes
        if not (_is_missing(sentence) and f"mean {_dotted(path)!r}?" in hints)
        and not (path in above and sentence.endswith((", got a list.", ", got a mapping.")))
    ]


def _joined(mistakes: list[Mistake]) -> list[Mistake]:
    """Of a value that may be one thing or another: ``should be A or B, got C``, once."""
    joined: dict[tuple[Location, str, str], list[str]] = {}
    for path, sentence in mistakes:
        before, should, after = sentence.partition(" should be ")
        wanted, got, value = after.partition(", got ")
        parts = joined.setdefault((path, before + should, got + value), [])
        if wanted not in parts:
            parts.append(wanted)
    return [
        (path, before + " or ".join(wanted) + after)
        for (path, before, after), wanted in joined.items()
    ]


def _is_missing(sentence: str) -> bool:
    return sentence.startswith("the setting ")


def _message(mistakes: list[str], name: str) -> str:
    if len(mistakes) == 1:
        separator = "" if mistakes[0].startswith(",") else ": "
        return f"{name}{separator}{mistakes[0]}"
    lines = [f"  {mistake.removeprefix(', ')}" for mistake in mistakes[:SHOWN]]
    if len(mistakes) > SHOWN:
        lines.append(f"  and {len(mistakes) - SHOWN} more.")
    return "\n".join([f"{name} has {len(mistakes)} mistakes:", *lines])


def _place(path: Location, document: Document, overrides: Mapping[Location, str]) -> str:
    """``, line 7: `` or ``, --set a.b=c: ``, or nothing where the place is not known."""
    for location, argument in overrides.items():
        if path[: len(location)] == location:
            return f", --set {argument}: "
    line = document.line_of(path)
    return f", line {line}: " if line else ""


def _sentence(details: Any, model: type[BaseModel]) -> Mistake:
    """The user's path and what is wrong there."""
    kind, location = details["type"], details["loc"]
    if kind == "extra_forbidden":
        return _unknown(location, model)
    path, _ = locate(model, location)
    if kind == "missing":
        return path, f"the setting {_dotted(path)!r} is missing.{_purpose(model, path)}"
    if kind.startswith("union_tag"):
        return _untagged(path, details["ctx"])
    words = _expectation(details)
    if not path:
        return path, words
    separator = " " if words.startswith(("should", "must")) else ": "
    return path, f"{_dotted(path)!r}{separator}{words}"


def _untagged(path: Location, context: Any) -> Mistake:
    """A setting that chooses among models is missing or names none of them."""
    path = (*path, context["discriminator"].strip("'"))
    if "tag" not in context:
        return path, f"the setting {_dotted(path)!r} is missing."
    tag, expected = context["tag"], context["expected_tags"]
    hint = did_you_mean(tag, [name.strip("'") for name in expected.split(", ")])
    return path, f"{_dotted(path)!r} should be one of {expected}, got {tag!r}.{hint}"


def _unknown(location: Location, model: type[BaseModel]) -> Mistake:
    above, here = locate(model, location[:-1])
    key = str(location[-1])
    path = (*above, key)
    return path, f"unknown setting {_dotted(path)!r}.{_suggestion(key, above, here, model)}"


def _suggestion(key: str, above: Location, here: Any, model: type[BaseModel]) -> str:
    """One of that very name elsewhere, else the nearest beside it, else all beside it."""
    names = known_names(here)
    if elsewhere := [path for path in known_paths(model) if path.rpartition(".")[2] == key]:
        return f" Did you mean {elsewhere[0]!r}?"
    if found := nearest(key, names):
        return f" Did you mean {_dotted((*above, found[0]))!r}?"
    return f" Known here: {', '.join(names)}." if names else ""


def _purpose(model: type[BaseModel], path: Location) -> str:
    """The field's own description, as far as its first full stop."""
    _, above = locate(model, path[:-1])
    for slot in above:
        field = fields_of(slot.model).get(str(path[-1])) if slot.model else None
        if field and field.description:
            return f" It is {field.description.strip().split('. ')[0].rstrip('.')}."
    return ""


def _expectation(details: Any) -> str:
    """``should be …, got …``; a validator's own words where it raised ValueError."""
    if details["type"] in ("value_error", "assertion_error"):
        return f"{str(details['ctx']['error']).rstrip('.')}."
    kind = details["type"]
    wanted = details["msg"].removeprefix("Input ").split(", unable to")[0].split(", got")[0]
    wanted = wanted.replace("a valid integer", "an integer").replace("a valid ", "a ")
    return f"{_PLAIN.get(kind, wanted)}, got {describe(details['input'])}."


def _dotted(path: Location) -> str:
    return ".".join(map(str, path))
