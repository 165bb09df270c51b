"""The second stage of a unit: the teacher, whom a single thread asks batch after batch.

What one utterance does wrong is recorded under its id, and the others go on: a batch that fails
as a whole is repeated one by one, so that one bad utterance costs nobody else. A batch that does
not fit in memory is halved until it does, and later ones are cut to what fitted. Only a broken
accelerator is passed on, because every later answer of that process would be wrong as well.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kdcache.errors import TeacherOutputError
from kdcache.extract.failure import failure_of_answer, pass_on_broken_device, told
from kdcache.extract.memory import Room, is_memory_error, release_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.extract.decode import Heard
    from kdcache.extract.gauge import Gauge
    from kdcache.store import FailedUtterance
    from kdcache.teacher import Teacher, TeacherOutput

    Answer = tuple[Heard, TeacherOutput] | FailedUtterance

_log = logging.getLogger(__name__)


class Forward:
    """Asks one teacher; of one thread at a time.

    Args:
        teacher: loaded.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._rate = teacher.spec.sample_rate
        self._room = Room()

    def answers(self, batch: Sequence[Heard], gauge: Gauge) -> list[Answer]:
        """The teacher's answers to a batch; none is left out.

        Raises:
            AcceleratorError: the device is broken, and with it this process.
        """
        if not batch:
            return []
        if len(batch) > 1 and not self._room.holds(_padded(batch)):
            return self._halves(batch, gauge)
        try:
            return list(zip(batch, self._forward(batch), strict=True))
        except Exception as error:
            pass_on_broken_device(error)
            if len(batch) == 1:
                return [self._failure(batch[0], error)]
            reason, short = told(error), is_memory_error(error)
        # Here the exception is gone, and with it the tensors that its frames held.
        if short:
            return self._smaller(batch, gauge, reason)
        return [answer for heard in batch for answer in self.answers([heard], gauge)]

    def _smaller(self, batch: Sequence[Heard], gauge: Gauge, reason: str) -> list[Answer]:
        """The same batch in halves, and no larger one any more."""
        gauge.halvings += 1
        self._room.shrink(_padded(batch))
        release_memory()
        _log.warning(
            "%d utterances, padded to %.1f s in all, do not fit in memory (%s); from now on at "
            "most %.1f s go through the teacher at once",
            len(batch),
            _padded(batch) / self._rate,
            reason,
            self._room.samples / self._rate,
        )
        return self._halves(batch, gauge)

    def _halves(self, batch: Sequence[Heard], gauge: Gauge) -> list[Answer]:
        middle = (len(batch) + 1) // 2
        return [*self.answers(batch[:middle], gauge), *self.answers(batch[middle:], gauge)]

    def _failure(self, heard: Heard, error: Exception) -> FailedUtterance:
        return failure_of_answer(heard.utterance, len(heard.samples) / self._rate, error)

    def _forward(self, batch: Sequence[Heard]) -> list[TeacherOutput]:
        outputs = self._teacher.forward(
            [heard.samples for heard in batch], [heard.tokens for heard in batch]
        )
        if len(outputs) != len(batch):
            raise TeacherOutputError(
                f"The teacher gave {len(outputs)} outputs for {len(batch)} utterances."
            )
        return outputs


def _padded(batch: Sequence[Heard]) -> int:
    """Samples of the batch, padding counted."""
    return len(batch) * max(len(heard.samples) for heard in batch)
