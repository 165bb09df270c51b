"""Run a speech-recognition teacher once; train students for ever after from its cache.

    >>> import kdcache
    >>> cache = kdcache.open_cache("runs/cache")
    >>> record = cache["1188-133604-0003"]["lattice"]
    >>> stream = kdcache.stream_cache(cache, batch_seconds=400, seed=7)

The public names are imported when they are first used: ``import kdcache`` is instant, and a
cache opens without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kdcache.version import __version__

if TYPE_CHECKING:
    from kdcache import loss
    from kdcache.errors import KdcacheError
    from kdcache.store import Cache, open_cache
    from kdcache.stream import stream_cache
    from kdcache.types import Utterance

__all__ = [
    "Cache",
    "KdcacheError",
    "Utterance",
    "__version__",
    "loss",
    "open_cache",
    "stream_cache",
]

_HOMES = {
    "Cache": "kdcache.store",
    "KdcacheError": "kdcache.errors",
    "Utterance": "kdcache.types",
    "open_cache": "kdcache.store",
    "stream_cache": "kdcache.stream",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name == "loss":
        return import_module("kdcache.loss")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
