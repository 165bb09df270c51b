"""The workers of one launch of a run, under Ray Train."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from kdcache.errors import KdcacheError
from kdcache.train.failure import failure_file, write_failure
from kdcache.train.stopping import Told, training_file
from kdcache.train.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ray.actor import ActorHandle
    from ray.train import UserCallback
    from ray.train.torch import TorchTrainer

    from kdcache.train.settings import TrainSettings


class Workers:
    """Ray Train's workers, and the controller that starts them again when they are lost.

    Args:
        settings: of a run that is prepared.
        launch: the name of this launch.
        callbacks: of Ray Train.
    """

    def __init__(
        self, settings: TrainSettings, launch: str, callbacks: Sequence[UserCallback]
    ) -> None:
        self._settings, self._launch, self._callbacks = settings, launch, list(callbacks)
        self._controllers: list[ActorHandle[Any]] = []

    def fit(self) -> None:
        """Start them, and wait for their end.

        Raises:
            Exception: whatever ended them, if it was not the end of their work.
        """
        self._trainer().fit()

    def end(self) -> None:
        """Kill them, from any thread. Whoever waits in :meth:`fit` gets an error.

        Nothing else makes Ray come back from there, and a process that leaves Ray while one of its
        threads is within dies of it.
        """
        import ray
        from ray.exceptions import RayError

        for controller in self._controllers:
            with contextlib.suppress(RayError):  # fit() gets that one, too
                ray.kill(controller, no_restart=True)

    def _trainer(self) -> TorchTrainer:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        controllers, settings = self._controllers, self._settings

        class Trainer(TorchTrainer):  # type: ignore[misc]  # Ray has no types
            def _register_sigint_handler(self, controller: ActorHandle[Any]) -> None:
                """Ray's own handler of ^C would end workers in the middle of a step.

                Not public, but nothing public tells the controller. A Ray that does not call it
                leaves nothing to kill; then a second signal ends the command.
                """
                controllers.append(controller)

        return Trainer(
            work,
            train_loop_config={
                "settings": settings.model_dump(mode="json"),
                "launch": self._launch,
            },
            scaling_config=ScalingConfig(
                num_workers=settings.workers,
                use_gpu=settings.gpu,
                resources_per_worker={"CPU": settings.cpus_per_worker},
            ),
            run_config=RunConfig(
                name="ray",
                storage_path=str(settings.out.absolute()),
                failure_config=FailureConfig(max_failures=settings.max_failures),
                callbacks=self._callbacks,
            ),
        )


def work(config: dict[str, Any]) -> None:
    """What each worker runs."""
    import ray.train
    from ray.train.torch import get_device

    from kdcache.train.settings import TrainSettings

    settings = TrainSettings.model_validate(config["settings"])
    failure = failure_file(settings.out, config["launch"])
    if failure.exists():
        return
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), get_device())
    told = Told(training_file(settings.out, config["launch"]))
    try:
        run_trainer(settings, world, ray.train.report, told)
    except KdcacheError as error:
        # Alone it may end in peace. Others wait for this one, until Ray ends them.
        if not write_failure(failure, error) or world.size > 1:
            raise


def run_trainer(
    settings: TrainSettings,
    world: World,
    report: Callable[[dict[str, Any]], None],
    stop: Callable[[], bool],
) -> None:
    """One worker's part of a run, with the threads that it may have.

    Args:
        settings: of a run that is prepared.
        world: this worker's place among all.
        report: see ``kdcache.train.loop.Trainer``.
        stop: see there.

    Raises:
        KdcacheError: whatever goes wrong.
    """
    import torch

    from kdcache.train.loop import Trainer

    torch.set_num_threads(settings.threads or max(int(settings.cpus_per_worker), 1))
    Trainer(settings, world, report, stop).run()
