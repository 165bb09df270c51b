"""What a teacher would have written, from what a cache keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.codec import HypothesesRecord, PosteriorRecord
from kdcache.errors import UnsupportedTargetError
from kdcache.inspect.divergence import spread
from kdcache.inspect.paths import ctc_greedy

if TYPE_CHECKING:
    from kdcache.store import Cache


class PseudoLabels:
    """Label ids of the best hypothesis, or of the best class of each frame by CTC.

    Args:
        cache: an open cache.

    Raises:
        UnsupportedTargetError: it holds neither hypotheses nor posteriors of an encoder with a
            blank.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache, self._teacher = cache, cache.spec.teacher
        names = [t.name for t in cache.spec.targets if t.record == "hypotheses"]
        if self._teacher.blank_id is not None:
            names += [t.name for t in cache.spec.targets if t.kind == "encoder_logits"]
        if not names:
            raise UnsupportedTargetError(
                f"{cache.location} does not tell what its teacher would have written: that takes "
                "a target of kind hypotheses or encoder_logits."
            )
        self.target = names[0]

    def read(self, row: int) -> tuple[list[int], float | None]:
        """Label ids of an utterance, and their log P in nats where it is known.

        Raises:
            DamagedCacheError: stored bytes are not what was written.
        """
        record = self._cache.read_target(row, self.target)
        if isinstance(record, HypothesesRecord):
            if not len(record.scores_H):
                return [], None
            return record.sequences()[0].tolist(), float(record.scores_H[0])
        assert isinstance(record, PosteriorRecord), "encoder_logits are posteriors"
        blank = self._teacher.blank_id
        assert blank is not None, "a teacher of CTC has a blank"
        said = ctc_greedy(spread(record, self._teacher.vocab_size), blank)
        return [label for _, label in said], None
