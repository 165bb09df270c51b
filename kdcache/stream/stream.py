"""The stream: a deterministic, resumable iterable of batches for one worker of many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from kdcache.errors import ConfigError, DamagedCacheError, did_you_mean
from kdcache.stream.counters import StreamCounters
from kdcache.stream.plan import EpochPlan, plan_epoch
from kdcache.stream.prefetch import read_ahead
from kdcache.stream.replay import ReplaySource
from kdcache.stream.window import measure_shuffle, plan_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kdcache.batch import Batch
    from kdcache.store.shards import ShardsOfRows
    from kdcache.stream.ahead import ShardsAhead
    from kdcache.stream.source import Example, Source
    from kdcache.stream.window import ShuffleQuality

OnDamage = Literal["raise", "skip"]

_WINDOW_STATE = ("window_shards", "shards")


@dataclass(frozen=True, slots=True)
class Step:
    """One worker's share of an optimiser step.

    Attributes:
        batches: its micro-batches; none where the last step has fewer than workers.
        utterances: utterances of the step on all workers, the divisor of its mean loss.
        epoch, index: the step's place.
        places: the place of each batch among the step's micro-batches, on all workers together.
    """

    batches: tuple[Batch, ...]
    utterances: int
    epoch: int
    index: int
    places: tuple[int, ...] = ()


class Stream:
    """Batches of one worker, in an order that only the source, seed and epoch decide.

    Iterating gives the micro-batches of what is left of the current epoch; iterating again
    goes on with the next epoch. :meth:`steps` does the same step by step. Position is kept
    by whole steps: what :meth:`state_dict` says has been consumed is never given again.

    Args:
        source: where examples come from.
        batch_seconds: greatest padded seconds of a micro-batch.
        seed: of the shuffle.
        rank, world_size: which worker of how many this is.
        micro_batches_per_step: micro-batches of an optimiser step, on all workers together; at
            least as many as workers. Where workers do not divide them, some have one more.
        shuffle: ``False`` for evaluation.
        prefetch: micro-batches, or steps of them, to read ahead; 0 reads each when it is asked
            for, in the thread that asks.
        shards: which shard each row is in; needed for a window.
        window_shards: mix the rows of so many shards at a time instead of all, see
            :mod:`kdcache.stream.window`; of no effect where ``shuffle`` is ``False``.
        ahead: fetches shards before they are needed, where the cache is remote.
        on_damage: what becomes of an utterance whose stored bytes are not what was written:
            ``raise``, or ``skip`` it, which :attr:`damaged` then names. The order of all others
            stays; a step still counts it among its utterances.

    Attributes:
        counters: seconds waited, and what was given and fetched, so far.
        waited: seconds that the consumer has spent waiting for batches.
        damaged: what was skipped: by catalogue row, the message that names the utterance.

    Raises:
        ConfigError: a rank outside the world, more workers than micro-batches in a step, an
            unknown ``on_damage``, or a window without shards. While it is consumed: a disk cache
            that is too small for the order.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_seconds: float = 400.0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        micro_batches_per_step: int | None = None,
        shuffle: bool = True,
        prefetch: int = 4,
        shards: ShardsOfRows | None = None,
        window_shards: int | None = None,
        ahead: ShardsAhead | None = None,
        on_damage: OnDamage = "raise",
    ) -> None:
        _check_on_damage(on_damage)
        _check_window(window_shards, shards)
        self._shards, self._window, self._ahead = shards, window_shards, ahead
        self._on_damage = on_damage
        self._count = micro_batches_per_step or world_size
        _check_world(rank, world_size, self._count)
        self.source = source
        self.rank, self.world_size = rank, world_size
        self._seed, self._batch_seconds = seed, batch_seconds
        self._shuffle, self._prefetch = shuffle, prefetch
        self._epoch, self._next, self._done = 0, 0, 0
        self.waited = 0.0
        self._batches, self._utterances = 0, 0
        self.damaged: dict[int, str] = {}

    def plan(self, epoch: int) -> EpochPlan:
        """The steps of an epoch, for all workers."""
        plan: Callable[..., EpochPlan] = plan_epoch
        if self._windowed:
            assert self._shards is not None
            assert self._window is not None
            plan = partial(plan_window, shards=self._shards, window=self._window)
        elif not self._shuffle:
            plan = partial(plan_epoch, shuffle=False)
        return plan(
            self.source.durations,
            seed=self._seed,
            epoch=epoch,
            batch_seconds=self._batch_seconds,
            micro_batches_per_step=self._count,
        )

    @property
    def counters(self) -> StreamCounters:
        """What this worker has waited for, been given and had fetched."""
        fetched = self._ahead.reader.counts if self._ahead else {}
        return StreamCounters(self.waited, self._batches, self._utterances, **fetched)

    def shuffle_quality(self) -> ShuffleQuality | None:
        """How well the current epoch is mixed; ``None`` where shards are not known."""
        if self._shards is None:
            return None
        return measure_shuffle(self.plan(self._epoch), self._shards)

    def __iter__(self) -> Iterator[Batch]:
        for step in self.steps():
            yield from step.batches

    def steps(self) -> Iterator[Step]:
        """This worker's share of each remaining step of the epoch."""
        coming = self._load_epoch(self._epoch, self._next, self._done)
        ahead = read_ahead(coming, self._prefetch)
        waited = self.waited
        for step in ahead:
            self._next, self._done = step.index + 1, self._done + 1
            self.waited = waited + ahead.waited
            self._batches += len(step.batches)
            self._utterances += sum(map(len, step.batches))
            yield step
        self._epoch, self._next = self._epoch + 1, 0

    def examples(self) -> Iterator[Example]:
        """The same utterances as numpy examples, unpadded; does not move the position."""
        plan, first = self.plan(self._epoch), self._done - self._next
        for index in range(self._next, len(plan)):
            for rows in plan.share(index, self.rank, self.world_size):
                yield from self._load(rows, self._source_at(first + index))

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON-ready values."""
        return {
            "snapshot": self.source.snapshot,
            "seed": self._seed,
            "epoch": self._epoch,
            "next": self._next,
            "batch_seconds": self._batch_seconds,
            "micro_batches_per_step": self._count,
            **self._window_state(),
            **({"done": self._done} if isinstance(self.source, ReplaySource) else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, with this or another number of workers.

        Raises:
            ConfigError: the state belongs to other utterances or to another order.
        """
        mine = self.state_dict()
        for key in ("snapshot", "seed", "batch_seconds", "micro_batches_per_step", *_WINDOW_STATE):
            saved, own = state.get(key), mine.get(key)
            if saved != own:
                raise ConfigError(
                    f"The saved position has {key} {saved!r} and this stream {own!r}: "
                    "the order would differ. Use the same cache and settings to resume."
                )
        self._epoch, self._next = int(state["epoch"]), int(state["next"])
        self._done = int(state.get("done", 0))

    @property
    def window_shards(self) -> int | None:
        """Shards that are mixed at a time; ``None`` where it is all of them."""
        return self._window if self._windowed else None

    @property
    def _windowed(self) -> bool:
        return self._window is not None and self._shuffle

    def _window_state(self) -> dict[str, Any]:
        """What the order depends on besides, with a window."""
        if not self._windowed or self._shards is None:
            return {}
        return dict(zip(_WINDOW_STATE, (self._window, self._shards.digest), strict=True))

    def _load_epoch(self, epoch: int, start: int, done: int) -> Iterator[Step]:
        """Steps from ``start`` on, before which ``done`` were done since the beginning."""
        plan, first = self.plan(epoch), done - start
        if self._ahead is None:
            yield from self._load_steps(plan, epoch, start, first, lambda _: None)
            return
        with self._ahead.follow(plan, self.rank, self.world_size) as run:
            yield from self._load_steps(plan, epoch, start, first, run.advance)

    def _load_steps(
        self, plan: EpochPlan, epoch: int, start: int, first: int, begin: Callable[[int], None]
    ) -> Iterator[Step]:
        for index in range(start, len(plan)):
            begin(index)
            shares = plan.share(index, self.rank, self.world_size)
            source = self._source_at(first + index)
            found = [self._batch(rows.tolist(), source) for rows in shares]
            there = [n for n, batch in enumerate(found) if batch is not None]
            batches = tuple(batch for batch in found if batch is not None)
            places = tuple(n * self.world_size + self.rank for n in there)
            yield Step(batches, plan.utterances(index), epoch, index, places)

    def _source_at(self, step: int) -> Source:
        """Where a step is read from, counted from the beginning of training."""
        return self.source.at(step) if isinstance(self.source, ReplaySource) else self.source

    def _batch(self, rows: Sequence[int], source: Source) -> Batch | None:
        """A micro-batch; ``None`` where all of it is damaged and skipped."""
        try:
            return source.load_batch(rows)
        except DamagedCacheError:
            if self._on_damage == "raise":
                raise
            self._load(rows, source)  # names what is damaged
            whole = [row for row in rows if row not in self.damaged]
            return source.load_batch(whole) if whole else None

    def _load(self, rows: Iterable[int], source: Source) -> list[Example]:
        """Examples of a micro-batch; without those that are damaged, if these are skipped."""
        examples = []
        for row in rows:
            try:
                examples.append(source.load(int(row)))
            except DamagedCacheError as error:
                if self._on_damage == "raise":
                    raise
                self.damaged[int(row)] = error.message
        return examples


def _check_on_damage(value: str) -> None:
    known = get_args(OnDamage)
    if value not in known:
        hint = did_you_mean(value, known)
        raise ConfigError(f"on_damage is {value!r}; expected {' or '.join(known)}.{hint}")


def _check_window(window: int | None, shards: ShardsOfRows | None) -> None:
    if window is None:
        return
    if window < 1:
        raise ConfigError(f"window_shards is {window}; expected a number of shards, at least 1.")
    if shards is None:
        raise ConfigError(
            "window_shards is given, but what is streamed has no shards; leave it out."
        )


def _check_world(rank: int, world_size: int, micro_batches: int) -> None:
    if not 0 <= rank < world_size:
        raise ConfigError(
            f"rank is {rank} of {world_size} workers; it must be 0 to {world_size - 1}."
        )
    if micro_batches < world_size:
        raise ConfigError(
            f"A step has {micro_batches} micro-batches, too few for {world_size} workers; set "
            f"micro_batches_per_step to {world_size} or more."
        )
