"""Classes of a vocabulary as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Pieces:
    """The text of a class, with ▁ for a blank between words.

    Alone, a tokenizer gives a piece without the blank before it: so it is spelt between two
    others.

    Args:
        spell: text of label ids.
        labels: some that the tokenizer has, such as a transcript's.
        blank: class id of the transducer's or CTC's blank, where there is one.
    """

    def __init__(
        self, spell: Callable[[Sequence[int]], str], labels: Sequence[int], blank: int | None
    ) -> None:
        self._spell, self._blank = spell, blank
        # The first label that is more than a blank between words.
        spelt = ((label, spell([label])) for label in labels)
        anchors = ((label, text) for label, text in spelt if text.strip())
        anchor: tuple[int, str] = next(anchors, (0, ""))
        self._anchor, self._anchor_text = anchor

    def __call__(self, label: int) -> str:
        """The text of a class."""
        if label == self._blank:
            return "blank"
        spell, anchor = self._spell, self._anchor
        between = spell([anchor, label, anchor]) if self._anchor_text else ""
        edge = len(self._anchor_text)
        inside = between[edge : len(between) - edge] or spell([label])
        return inside.replace(" ", "▁") or f"#{label}"
