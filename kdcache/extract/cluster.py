"""The Ray that actors run on: the one there is, a cluster's, or one of this machine's own.

A cluster that is started here holds no dashboard and hardly any shared memory, since no
array ever passes through Ray: actors read audio and write shards themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError
from kdcache.session import ray_session

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kdcache.extract.config import ExtractConfig


@dataclass(frozen=True, slots=True)
class Crew:
    """How many actors, and what each of them gets.

    Attributes:
        actors: how many.
        cpus, gpus: reserved for each.
        device: ``cpu`` or ``cuda``.
    """

    actors: int
    cpus: float
    gpus: float
    device: str


def connected(config: ExtractConfig) -> AbstractContextManager[None]:
    """Ray, for as long as the block runs; see :func:`kdcache.session.ray_session`."""
    return ray_session(config.ray.address, _own_cluster(config))


def _own_cluster(config: ExtractConfig) -> dict[str, Any]:
    """A given number of actors always fits; otherwise Ray counts what the machine has."""
    settings: dict[str, Any] = {"object_store_memory": config.ray.object_store_mb * 2**20}
    if isinstance(config.actors, int):
        settings["num_cpus"] = max(1, math.ceil(config.actors * config.cpus_per_actor))
    return settings


def muster(config: ExtractConfig, units: int, resources: dict[str, float]) -> Crew:
    """The crew for ``units`` units on a cluster with ``resources``.

    A given number of actors on a cluster elsewhere is not held against what that cluster has
    now: it may be about to grow.

    Raises:
        ConfigError: not a single actor fits.
    """
    device = config.teacher.device
    if device == "auto":
        device = "cuda" if resources.get("GPU", 0) and config.gpus_per_actor != 0 else "cpu"
    wanted = 1.0 if device == "cuda" else 0.0
    gpus = wanted if config.gpus_per_actor is None else config.gpus_per_actor
    actors = config.actors
    if actors == "auto" or config.ray.address is None:
        room = _room(resources, {"CPU": config.cpus_per_actor, "GPU": gpus})
        actors = room if actors == "auto" else actors
    return Crew(max(1, min(actors, units)), config.cpus_per_actor, gpus, device)


def _room(resources: dict[str, float], needs: dict[str, float]) -> int:
    """Actors that fit at once."""
    for name, need in needs.items():
        if need > resources.get(name, 0.0):
            raise ConfigError(
                f"An actor needs {need:g} {name}, and the Ray cluster has "
                f"{resources.get(name, 0.0):g}; lower {name.lower()}s_per_actor, set "
                "teacher.device to cpu, or give ray.address of a larger cluster."
            )
    return min(int(resources[name] / need) for name, need in needs.items() if need)
