"""Trains runs on real worker processes: ``python -m tests.unit.train.gloo_run SETTINGS…``.

Each SETTINGS is a file of a run's settings as JSON, whose ``workers`` are forked from here and
joined by gloo; the runs go one after the other. With ``stop_after``, a step, a run is told to stop
after it, and goes on. Forked, because importing torch anew in each would
take longer than training.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from kdcache.train.loop import Trainer
from kdcache.train.settings import TrainSettings
from kdcache.train.world import World


def work(values: dict[str, Any], rank: int, size: int) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{values['out']}.meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    stop_after = values.pop("stop_after", None)
    if stop_after is not None:  # the first worker alone is told
        told = Trainer(
            TrainSettings.model_validate(values),
            World(rank, size),
            stop=lambda: rank == 0 and told.step == stop_after,
        )
        told.run()
        assert told.step == stop_after
    Trainer(TrainSettings.model_validate(values), World(rank, size)).run()
    distributed.destroy_process_group()


def main() -> None:
    context = multiprocessing.get_context("fork")
    for name in sys.argv[1:]:
        values = json.loads(Path(name).read_text())
        size = values["workers"]
        processes = [
            context.Process(target=work, args=(values, rank, size)) for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert all(process.exitcode == 0 for process in processes), name


if __name__ == "__main__":
    main()
