"""One document laid over another."""

from __future__ import annotations

from typing import Any


def merged(below: Any, above: Any) -> Any:
    """``below`` with what ``above`` says otherwise: mappings are joined, all else is replaced.

    A null in ``above`` takes a setting of a mapping away.
    """
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    joined = dict(below)
    for key, value in above.items():
        if value is None:
            joined.pop(key, None)
        else:
            joined[key] = merged(below.get(key), value)
    return joined
