"""Run a plan's jobs, one after another or several at once; what is done and unchanged is not
done again.

A job whose settings or inputs have changed is made anew in an empty folder; the old folder is
set aside under ``set-aside/``, never mixed with the new. A job that was begun and not ended,
with the same settings and inputs, goes on in its folder.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from kdcache.errors import ConfigError, KdcacheError
from kdcache.pipeline.digest import digest_of
from kdcache.pipeline.kind import Work
from kdcache.pipeline.places import places_in
from kdcache.pipeline.record import StageRecord, difference, read_record, write_record
from kdcache.pipeline.side_by_side import run_side_by_side
from kdcache.session import ray_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from kdcache.pipeline.plan import Job, Plan
    from kdcache.pipeline.show import Show

SET_ASIDE = "set-aside"

OBJECT_STORE = 128 * 2**20
"""Bytes of shared memory of a Ray that is started here; no arrays pass through it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job in this run.

    Attributes:
        job: its name.
        state: whether it was run, or was done already.
        seconds: that it took, when it was run.
    """

    job: str
    state: Literal["run", "unchanged"]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A job of a run.

    Attributes:
        job: what is to be done.
        number: its place, such as ``[3/12]``.
        again: whether to make it though nothing has changed.
    """

    job: Job
    number: str
    again: bool


def run_plan(
    plan: Plan,
    show: Show,
    say: Callable[[str], None],
    *,
    only: Sequence[str] = (),
    anew: Sequence[str] = (),
    command: str = "",
    at_once: int = 1,
) -> list[Outcome]:
    """Bring a plan to its end.

    Args:
        plan: what to do.
        show: opens a progress display.
        say: told in a line what happens to each job.
        only: stages or jobs; they and what they need, nothing else. All if empty.
        anew: stages or jobs to make again, with all that read from them, though unchanged.
        command: what was typed, for results.
        at_once: jobs that run at once, each in a process of its own and with its share of the
            CPUs; 1 runs them in this process.

    Raises:
        ConfigError: no such stage, or the folder is used by another run or by something else.
        KdcacheError: a stage failed. What was done stays, and the same call goes on.
    """
    jobs = plan.needed_by(_named(plan, only)) if only else list(plan.jobs)
    again = {job.name for job in plan.fed_by(_named(plan, anew))}
    plan.out.mkdir(parents=True, exist_ok=True)
    with _alone(plan.out), ExitStack() as session:
        runner = Runner(plan, show, say, command, session)
        numbered = [
            Numbered(job, f"[{number}/{len(jobs)}]", job.name in again)
            for number, job in enumerate(jobs, 1)
        ]
        if at_once > 1:
            return run_side_by_side(runner, numbered, at_once)
        return [runner.begin(one) or runner.end(one, runner.work(one)) for one in numbered]


class Runner:
    """One run: records of the jobs that are done, by name, and a Ray where one is needed.

    Ray is started before the first job that wants it and shut down after the last: starting it
    takes longer than many a stage. Workers and actors are processes of their own, which end
    with their stage; nothing of a teacher is alive while a student is trained.
    """

    def __init__(
        self,
        plan: Plan,
        show: Show,
        say: Callable[[str], None],
        command: str,
        session: ExitStack,
    ) -> None:
        self._plan, self._show, self._say, self._command = plan, show, say, command
        self._session, self._connected = session, False
        self._done: dict[str, StageRecord] = {}
        self._begun: dict[str, tuple[StageRecord, float]] = {}

    def begin(self, one: Numbered) -> Outcome | None:
        """Make ready for a job, whose needs are done; its outcome where nothing is to be done."""
        job, now, before = one.job, self._record(one.job), read_record(one.job.place)
        if before is None:
            _refuse_foreign(job)
        if before is not None and not one.again and _is_done(job, before, now):
            self._done[job.name] = before
            self._say(f"{one.number} {job.name}: unchanged, took {_time(before.seconds)}")
            return Outcome(job.name, "unchanged", before.seconds)
        if before is not None and (why := _why_anew(before, now, one.again)):
            kept = _set_aside(job.place, self._plan.out, job.name)
            self._say(
                f"{one.number} {job.name}: made anew, because {why}; the old one is in {kept}"
            )
        goes_on = read_record(job.place) is not None
        self._say(f"{one.number} {job.name}: {'goes on' if goes_on else job.kind_name}")
        job.place.mkdir(parents=True, exist_ok=True)
        write_record(job.place, now)
        self._begun[job.name] = now, time.monotonic()
        return None

    def work(self, one: Numbered) -> dict[str, Any]:
        """Do a job that has begun; the figures that it returns."""
        self.connect(one.job)
        facts: dict[str, Any] = one.job.kind.run(one.job.settings, self.given(one.job))
        return facts

    def given(self, job: Job) -> Work:
        """What a job is given to work with."""
        ray = self._plan.recipe.recipe.ray
        where = (job.name, job.place, self._plan.out)
        return Work(*where, job.variables, self._show, self._command, ray)

    def end(self, one: Numbered, facts: dict[str, Any]) -> Outcome:
        """Write down that a job is done."""
        job, (now, began) = one.job, self._begun.pop(one.job.name)
        record = replace(
            now,
            state="done",
            outputs=_digests(job),
            facts=facts,
            seconds=round(time.monotonic() - began, 2),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_record(job.place, record)
        self._done[job.name] = record
        self._say(f"{one.number} {job.name}: done in {_time(record.seconds)}")
        return Outcome(job.name, "run", record.seconds)

    def is_ready(self, job: Job) -> bool:
        """Whether all that a job reads is there."""
        return all(need in self._done for need in job.needs)

    def wants_ray(self, job: Job) -> bool:
        """Whether it runs under a Ray on this machine."""
        return job.kind.cpus(job.settings, self._plan.recipe.recipe.ray) is not None

    def connect(self, job: Job) -> None:
        """Have a Ray on this machine that suits every job, if this one wants one."""
        if self._connected or not self.wants_ray(job):
            return
        ray = self._plan.recipe.recipe.ray
        wanted = [other.kind.cpus(other.settings, ray) or 0 for other in self._plan.jobs]
        local = {"num_cpus": math.ceil(max(wanted)), "object_store_memory": OBJECT_STORE}
        self._session.enter_context(ray_session(None, local))
        self._connected = True

    def _record(self, job: Job) -> StageRecord:
        """What a job would be made from now; what it reads is there."""
        inputs = {f"{need}.{name}": self._done[need].outputs[name] for need, name in job.reads}
        out = str(self._plan.out)
        decisive = job.kind.decisive(job.settings)
        outside = {
            place: digest_of(place)
            for place in places_in(job.settings)
            if not place.startswith(f"{out}/") and place in set(_strings(decisive))
        }
        settings = _portable(decisive, out, outside)
        return StageRecord(job.name, job.kind_name, job.kind.version, "begun", settings, inputs)


def _named(plan: Plan, names: Sequence[str]) -> list[Job]:
    return [job for name in names for job in plan.of_stage(name)]


def _is_done(job: Job, before: StageRecord, now: StageRecord) -> bool:
    same = before.state == "done" and before.fingerprint == now.fingerprint
    return same and all(path.exists() for path in job.outputs.values())


def _why_anew(before: StageRecord, now: StageRecord, again: bool) -> str:
    """Why what is there cannot be used or gone on with; empty where it can."""
    if before.fingerprint != now.fingerprint:
        return difference(before, now)
    if again:
        return "that was asked for"
    return "outputs of it are gone" if before.state == "done" else ""


def _digests(job: Job) -> dict[str, str]:
    for name, path in job.outputs.items():
        if not path.exists():
            raise KdcacheError(
                f"The stage {job.name} has ended without its output {name} ({path}); that is a "
                f"mistake in the kind {job.kind_name}."
            )
    return {name: job.kind.digest(name, path) for name, path in job.outputs.items()}


def _portable(value: Any, out: str, outside: dict[str, str]) -> Any:
    """Settings without places: outputs of the run by their names, other inputs by content."""
    if isinstance(value, dict):
        return {key: _portable(item, out, outside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(item, out, outside) for item in value]
    if not isinstance(value, str):
        return value
    return outside.get(value, value.removeprefix(f"{out}/"))


def _strings(value: Any) -> Iterator[str]:
    """Every string in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _refuse_foreign(job: Job) -> None:
    """A folder without a record is empty but for folders of other jobs, or it is not ours."""
    found = job.place.iterdir() if job.place.is_dir() else ()
    if any(path.is_file() and not path.name.startswith(".") for path in found):
        raise ConfigError(f"{job.place} holds what no pipeline made; give another --out.")


def _set_aside(place: Path, out: Path, name: str) -> Path:
    """Move a job's folder out of the way; where it is then."""
    number = 1
    while (kept := out / SET_ASIDE / f"{name.replace('/', '-')}.{number}").exists():
        number += 1
    kept.parent.mkdir(parents=True, exist_ok=True)
    place.rename(kept)
    return kept


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the run's folder, so that two runs do not write over each other."""
    handle = os.open(out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"Another run works in {out}; wait for it, or give another --out."
            ) from None
        yield
    finally:
        os.close(handle)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
