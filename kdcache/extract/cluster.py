"""The Ray that actors run on: the one there is, a cluster's, or one of this machine's own.

A cluster that is started here holds no dashboard and hardly any shared memory, since no
array ever passes through Ray: actors read audio and write shards themselves.

With ``actors: auto`` a run follows its cluster: it has as many actors as fit on the nodes that
there are at the moment, within ``min_actors`` and ``max_actors``. An actor that is wanted is asked
for whether or not it fits. While it waits for a place, it is what an autoscaler sees; a driver that
dies takes the wish with it, which ``ray.autoscaler.sdk.request_resources`` would leave standing.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdcache.errors import ConfigError
from kdcache.session import ray_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from kdcache.extract.config import ExtractConfig

    Nodes = Sequence[Mapping[str, float]]
    """What each node has to give, by resource."""

_ROUNDING = 1e-6
"""Ten tenths of a CPU are one."""

LOOK_EVERY = 5.0
"""Seconds between two looks at which nodes there are."""


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


def cluster_nodes() -> Nodes:
    """The nodes that live now, of the Ray that this process is connected to."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def muster(config: ExtractConfig, units: int, nodes: Nodes) -> Crew:
    """The crew for ``units`` units on a cluster of these nodes.

    A number of actors that is asked for on a cluster elsewhere is not held against what that
    cluster has now: it may be about to grow.

    Raises:
        ConfigError: not a single actor fits.
    """
    device = config.teacher.device
    if device == "auto":
        gives = any(node.get("GPU", 0) for node in nodes)
        device = "cuda" if gives and config.gpus_per_actor != 0 else "cpu"
    wanted = 1.0 if device == "cuda" else 0.0
    gpus = wanted if config.gpus_per_actor is None else config.gpus_per_actor
    crew = Crew(1, config.cpus_per_actor, gpus, device)
    room = room_for(crew, nodes)
    grows = config.ray.address is not None and (
        config.actors != "auto" or config.min_actors is not None
    )
    if not room and not grows:
        raise _no_room(crew, nodes)
    return replace(crew, actors=max(1, min(_within(config, room), units)))


def room_for(crew: Crew, nodes: Nodes) -> int:
    """Actors like those of ``crew`` that fit at once: each needs all that it takes of one node."""
    needs = {name: need for name, need in _needs(crew).items() if need}
    return sum(
        min(int(node.get(name, 0.0) / need + _ROUNDING) for name, need in needs.items())
        for node in nodes
    )


class Following:
    """How many actors a run should have, as nodes come and go.

    Args:
        config: of the run.
        crew: what it began with.
        look: the nodes that there are.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        config: ExtractConfig,
        crew: Crew,
        look: Callable[[], Nodes] = cluster_nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._crew, self._look, self._clock = config, crew, look, clock
        self._wanted = crew.actors
        self._next = clock() + LOOK_EVERY

    def wanted(self) -> int:
        """As many; looks at the cluster now and then. At least one: it may be the wish for it that
        brings a node back."""
        if self._config.actors == "auto" and self._clock() >= self._next:
            self._next = self._clock() + LOOK_EVERY
            self._wanted = max(1, _within(self._config, room_for(self._crew, self._look())))
        return self._wanted


def _within(config: ExtractConfig, room: int) -> int:
    """Actors where ``room`` fit."""
    if config.actors != "auto":
        return config.actors
    most = room if config.max_actors is None else min(room, config.max_actors)
    return max(config.min_actors or 0, most)


def _needs(crew: Crew) -> dict[str, float]:
    return {"CPU": crew.cpus, "GPU": crew.gpus}


def _no_room(crew: Crew, nodes: Nodes) -> ConfigError:
    """What there is too little of."""
    for name, need in _needs(crew).items():
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if need > most:
            among = (
                "the Ray cluster has" if len(nodes) < 2 else "no node of the Ray cluster has over"
            )
            return ConfigError(
                f"An actor needs {need:g} {name}, and {among} {most:g}; lower "
                f"{name.lower()}s_per_actor, set teacher.device to cpu, or give ray.address of a "
                "larger cluster."
            )
    return ConfigError(
        f"An actor needs {crew.cpus:g} CPU and {crew.gpus:g} GPU, and no node of the Ray cluster "
        "has both; lower cpus_per_actor or gpus_per_actor."
    )
