"""Student models, and what makes them small.

Names are imported when they are asked for: settings are read by processes that need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcache.student.checkpoint import load_student, save_student
    from kdcache.student.from_ctc import begin_from_ctc
    from kdcache.student.settings import StudentSettings
    from kdcache.student.transducer import StudentOutput, TransducerStudent, build_student

_HOMES = {
    "StudentOutput": "transducer",
    "StudentSettings": "settings",
    "TransducerStudent": "transducer",
    "begin_from_ctc": "from_ctc",
    "build_student": "transducer",
    "load_student": "checkpoint",
    "save_student": "checkpoint",
}

__all__ = [
    "StudentOutput",
    "StudentSettings",
    "TransducerStudent",
    "begin_from_ctc",
    "build_student",
    "load_student",
    "save_student",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
