"""Labels of a batch by the decoder that suits the student's kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdcache.score.attention import greedy_attention
from kdcache.score.ctc import greedy_ctc_decode
from kdcache.score.greedy import greedy_decode
from kdcache.student import TransducerStudent
from kdcache.student.san_m import SanMStudent

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdcache.student import Student, StudentOutput


def decode_labels(student: Student, output: StudentOutput) -> list[list[int]]:
    """Label ids of each utterance, in float32 whatever the output is in.

    Args:
        student: in evaluation mode.
        output: what it gave, of ``hear`` or of a forward pass.
    """
    return _DECODERS[student.kind](student, output)


def _transducer(student: Student, output: StudentOutput) -> list[list[int]]:
    assert isinstance(student, TransducerStudent)
    assert output.encoder_BTJ is not None
    return greedy_decode(student.model, output.encoder_BTJ.float(), output.frames_B)


def _ctc(student: Student, output: StudentOutput) -> list[list[int]]:
    assert output.ctc_logits_BTV is not None
    return greedy_ctc_decode(output.ctc_logits_BTV, output.frames_B, student.blank)


def _san_m(student: Student, output: StudentOutput) -> list[list[int]]:
    assert isinstance(student, SanMStudent)
    return greedy_attention(student.model.decoder, output.hidden_BTD.float(), output.frames_B)


_DECODERS: dict[str, Callable[[Student, StudentOutput], list[list[int]]]] = {
    "ctc": _ctc,
    "transducer": _transducer,
    "san_m": _san_m,
}
