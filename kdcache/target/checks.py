"""Checks that targets share: settings, what a teacher offers, what it gave, what came back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kdcache.errors import ConfigError, TeacherOutputError, UnsupportedTargetError
from kdcache.types import TeacherKind

if TYPE_CHECKING:
    from kdcache.types import TeacherSpec

GivenT = TypeVar("GivenT")

_POSTERIORS = {
    TeacherKind.TRANSDUCER: "lattice",
    TeacherKind.CTC: "encoder_logits",
    TeacherKind.ATTENTION: "decoder_logits",
}
"""The target that makes a teacher one of its kind."""


def check_offered(kind: str, teacher: TeacherSpec) -> None:
    """Raise UnsupportedTargetError where ``teacher`` does not give targets of this kind."""
    if kind not in teacher.targets:
        raise UnsupportedTargetError(
            f"Teacher {teacher.name!r} ({teacher.kind}) cannot give target {kind!r}; it gives "
            f"{', '.join(teacher.targets)}."
        )


def check_scores_offered(kind: str, teacher: TeacherSpec, *kinds: TeacherKind) -> None:
    """Raise UnsupportedTargetError unless ``teacher`` can score whole label sequences.

    Any teacher that gives the posteriors of its kind can, so that specs need not say so.

    Args:
        kind: of the target that is asked for.
        teacher: what it is.
        kinds: of teachers for which there is a way.
    """
    if teacher.kind not in kinds or _POSTERIORS[teacher.kind] not in teacher.targets:
        able = " or ".join(f"{k} teachers with {_POSTERIORS[k]}" for k in kinds)
        raise UnsupportedTargetError(
            f"Teacher {teacher.name!r} ({teacher.kind}) cannot give target {kind!r}, which is of "
            f"{able}; it gives {', '.join(teacher.targets)}."
        )


def parse_top_k(top_k: object, smallest: int) -> int:
    """``top_k`` as an integer of at least ``smallest``.

    Raises:
        ConfigError: it is anything else.
    """
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < smallest:
        raise ConfigError(f"top_k is {top_k!r}; expected an integer of at least {smallest}.")
    return top_k


def given(value: GivenT | None, kind: str) -> GivenT:
    """``value``, which the teacher's spec promised for targets of this kind.

    Raises:
        TeacherOutputError: it is missing.
    """
    if value is None:
        raise TeacherOutputError(f"The teacher's output lacks what target {kind!r} is made of.")
    return value


def check_rows(got: int, expected: int, what: str) -> None:
    """Raise TeacherOutputError where the output has another length than it should, or none."""
    if got != expected or got < 1:
        raise TeacherOutputError(f"The teacher gave {got} {what}, expected {max(expected, 1)}.")


def check_ids(kept: np.ndarray, decoded: np.ndarray) -> None:
    """Raise ConfigError where a codec did not give the class ids back unchanged."""
    if not np.array_equal(kept, decoded):
        raise ConfigError("The codec did not give class ids back unchanged; use another.")


def check_starts(kept: np.ndarray | None, decoded: np.ndarray | None) -> None:
    """Raise ConfigError where a codec did not give a band's starts back unchanged."""
    same = kept is decoded if kept is None or decoded is None else np.array_equal(kept, decoded)
    if not same:
        raise ConfigError("The codec did not give a band's starts back unchanged; use another.")
