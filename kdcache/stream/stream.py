"""The stream: a deterministic, resumable iterable of batches for one worker of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from kdcache.errors import ConfigError, DamagedCacheError, did_you_mean
from kdcache.stream.plan import EpochPlan, plan_epoch
from kdcache.stream.prefetch import read_ahead
from kdcache.stream.source import CacheSource, CorpusSource, KeptSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from kdcache.batch import Batch
    from kdcache.corpus.tokenizer import Tokenizer
    from kdcache.store import Cache
    from kdcache.stream.join import OnOtherText
    from kdcache.stream.source import Example, Source
    from kdcache.types import Utterance

OnDamage = Literal["raise", "skip"]


@dataclass(frozen=True, slots=True)
class Step:
    """One worker's share of an optimiser step.

    Attributes:
        batches: its micro-batches; none where the last step has fewer than workers.
        utterances: utterances of the step on all workers, the divisor of its mean loss.
        epoch, index: the step's place.
    """

    batches: tuple[Batch, ...]
    utterances: int
    epoch: int
    index: int


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
        micro_batches_per_step: micro-batches of an optimiser step, on all workers together.
        shuffle: ``False`` for evaluation.
        prefetch: micro-batches, or steps of them, to read ahead; 0 reads each when it is asked
            for, in the thread that asks.
        on_damage: what becomes of an utterance whose stored bytes are not what was written:
            ``raise``, or ``skip`` it, which :attr:`damaged` then names. The order of all others
            stays; a step still counts it among its utterances.

    Attributes:
        waited: seconds that the consumer has spent waiting for batches.
        damaged: what was skipped: by catalogue row, the message that names the utterance.

    Raises:
        ConfigError: a rank outside the world, more workers than micro-batches in a step, or an
            unknown ``on_damage``.
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
        on_damage: OnDamage = "raise",
    ) -> None:
        _check_on_damage(on_damage)
        self._on_damage = on_damage
        self._count = micro_batches_per_step or world_size
        _check_world(rank, world_size, self._count)
        self.source = source
        self.rank, self.world_size = rank, world_size
        self._seed, self._batch_seconds = seed, batch_seconds
        self._shuffle, self._prefetch = shuffle, prefetch
        self._epoch, self._next = 0, 0
        self.waited = 0.0
        self.damaged: dict[int, str] = {}

    def plan(self, epoch: int) -> EpochPlan:
        """The steps of an epoch, for all workers."""
        return plan_epoch(
            self.source.durations,
            seed=self._seed,
            epoch=epoch,
            batch_seconds=self._batch_seconds,
            micro_batches_per_step=self._count,
            shuffle=self._shuffle,
        )

    def __iter__(self) -> Iterator[Batch]:
        for step in self.steps():
            yield from step.batches

    def steps(self) -> Iterator[Step]:
        """This worker's share of each remaining step of the epoch."""
        ahead = read_ahead(self._load_epoch(self._epoch, self._next), self._prefetch)
        waited = self.waited
        for step in ahead:
            self._next = step.index + 1
            self.waited = waited + ahead.waited
            yield step
        self._epoch, self._next = self._epoch + 1, 0

    def examples(self) -> Iterator[Example]:
        """The same utterances as numpy examples, unpadded; does not move the position."""
        plan = self.plan(self._epoch)
        for index in range(self._next, len(plan)):
            for rows in plan.share(index, self.rank, self.world_size):
                yield from self._load(rows)

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON-ready values."""
        return {
            "snapshot": self.source.snapshot,
            "seed": self._seed,
            "epoch": self._epoch,
            "next": self._next,
            "batch_seconds": self._batch_seconds,
            "micro_batches_per_step": self._count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, with this or another number of workers.

        Raises:
            ConfigError: the state belongs to other utterances or to another order.
        """
        mine = self.state_dict()
        for key in ("snapshot", "seed", "batch_seconds", "micro_batches_per_step"):
            if state[key] != mine[key]:
                raise ConfigError(
                    f"The saved position has {key} {state[key]!r} and this stream {mine[key]!r}: "
                    "the order would differ. Use the same cache and settings to resume."
                )
        self._epoch, self._next = int(state["epoch"]), int(state["next"])

    def _load_epoch(self, epoch: int, start: int) -> Iterator[Step]:
        plan = self.plan(epoch)
        for index in range(start, len(plan)):
            shares = plan.share(index, self.rank, self.world_size)
            found = [self._batch(rows.tolist()) for rows in shares]
            batches = tuple(batch for batch in found if batch is not None)
            yield Step(batches, plan.utterances(index), epoch, index)

    def _batch(self, rows: Sequence[int]) -> Batch | None:
        """A micro-batch; ``None`` where all of it is damaged and skipped."""
        try:
            return self.source.load_batch(rows)
        except DamagedCacheError:
            if self._on_damage == "raise":
                raise
            self._load(rows)  # names what is damaged
            whole = [row for row in rows if row not in self.damaged]
            return self.source.load_batch(whole) if whole else None

    def _load(self, rows: Iterable[int]) -> list[Example]:
        """Examples of a micro-batch; without those that are damaged, if these are skipped."""
        examples = []
        for row in rows:
            try:
                examples.append(self.source.load(int(row)))
            except DamagedCacheError as error:
                if self._on_damage == "raise":
                    raise
                self.damaged[int(row)] = error.message
        return examples


def stream_cache(
    cache: Cache | str | Path,
    *,
    targets: Sequence[str] | None = None,
    corpus: str | Path | None = None,
    sample_rate: int | None = None,
    tokenizer: Tokenizer | None = None,
    on_other_text: OnOtherText = "raise",
    keep_in_memory: bool = False,
    **settings: Any,
) -> Stream:
    """Stream a cache: padded torch batches with the teacher's targets.

    Args:
        cache: an open cache, or its path or URL.
        targets: which to decode; all if ``None``.
        corpus, sample_rate, tokenizer, on_other_text: see :class:`CacheSource`.
        keep_in_memory: decode each utterance once and keep it, for small caches.
        settings: see :class:`Stream`.
    """
    from kdcache.store import Cache, open_cache

    opened = cache if isinstance(cache, Cache) else open_cache(cache)
    names = [target.name for target in opened.spec.targets] if targets is None else targets
    source = CacheSource(
        opened,
        names,
        corpus=corpus,
        sample_rate=sample_rate,
        tokenizer=tokenizer,
        on_other_text=on_other_text,
    )
    return Stream(KeptSource(source) if keep_in_memory else source, **settings)


def stream_corpus(
    utterances: Iterable[Utterance],
    tokenizer: Tokenizer,
    sample_rate: int,
    *,
    keep_in_memory: bool = False,
    **settings: Any,
) -> Stream:
    """Stream a corpus without a teacher: the same batches with no targets."""
    source = CorpusSource(utterances, tokenizer, sample_rate)
    return Stream(KeptSource(source) if keep_in_memory else source, **settings)


def _check_on_damage(value: str) -> None:
    known = get_args(OnDamage)
    if value not in known:
        hint = did_you_mean(value, known)
        raise ConfigError(f"on_damage is {value!r}; expected {' or '.join(known)}.{hint}")


def _check_world(rank: int, world_size: int, micro_batches: int) -> None:
    if not 0 <= rank < world_size:
        raise ConfigError(
            f"rank is {rank} of {world_size} workers; it must be 0 to {world_size - 1}."
        )
    if micro_batches % world_size:
        raise ConfigError(
            f"A step has {micro_batches} micro-batches, which {world_size} workers do not divide; "
            f"set micro_batches_per_step to a multiple of {world_size}."
        )
