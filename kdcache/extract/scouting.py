"""A look at a sample where teachers run: one actor, on their device, a step at a time.

The driver asks for one step after the other, so that it can tell how far it is and be stopped
between two. Nothing is written meanwhile; whoever is interrupted here has lost nothing else.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError

from kdcache.errors import KdcacheError
from kdcache.extract.actor import account, load_pinned
from kdcache.extract.cluster import cluster_nodes, muster
from kdcache.extract.errand import Settled, Survey

if TYPE_CHECKING:
    from collections.abc import Generator

    from kdcache.extract.errand import Errand, Watch

_STEP_SECONDS = 0.5
"""An actor works at least so long before it tells how far it is."""


class ScoutActor:
    """A teacher that is heard on a sample. Errors that kdcache knows are returned, not raised."""

    def __init__(self, errand: Errand, device: str) -> None:
        self._errand, self._device = errand, device
        self._steps: Generator[Survey, None, Settled] | None = None

    def step(self) -> Survey | Settled | KdcacheError:
        """Go on for a while; the first step loads the teacher."""
        try:
            return self._step(time.monotonic() + _STEP_SECONDS)
        except KdcacheError as error:
            return error

    def _step(self, until: float) -> Survey | Settled:
        if self._steps is None:
            teacher = load_pinned(self._errand.config, self._errand.teacher, self._device)
            from kdcache.extract.survey import survey

            self._steps = survey(self._errand, teacher)
        while True:
            try:
                told = next(self._steps)
            except StopIteration as end:
                found: Settled = end.value
                return found
            if time.monotonic() >= until or told.done == told.total:
                return told


def scout_with_ray(errand: Errand, watch: Watch) -> Settled:
    """Run the errand in an actor of the Ray that this process is connected to.

    Raises:
        KdcacheError: what the actor found, or that it died.
    """
    crew = muster(errand.config, 1, cluster_nodes())
    options = {"num_cpus": crew.cpus, "num_gpus": crew.gpus, "max_restarts": 0}
    actor = ray.remote(ScoutActor).options(**options).remote(errand, crew.device)
    try:
        while True:
            told = _told(actor.step.remote())
            if isinstance(told, Settled):
                return told
            watch(told)
    finally:
        with contextlib.suppress(RayError, ValueError):
            ray.kill(actor, no_restart=True)


def _told(call: Any) -> Survey | Settled:
    try:
        told: Survey | Settled | KdcacheError = ray.get(call)
    except RayError as error:
        raise KdcacheError(
            f"The teacher actor that heard a sample died ({account(error)}). Often there is too "
            "little memory: try a lower sample_utterances or batch_seconds."
        ) from error
    if isinstance(told, KdcacheError):
        raise told
    return told
