"""Student models, and what makes them small.

Names are imported when they are asked for: settings are read by processes that need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcache.student.base import Student
    from kdcache.student.ctc import CTCStudent
    from kdcache.student.ctc_settings import CTCStudentSettings
    from kdcache.student.from_ctc import begin_from_ctc
    from kdcache.student.output import StudentOutput
    from kdcache.student.packing import pack_student
    from kdcache.student.registry import build_student, load_student, save_student
    from kdcache.student.settings import AnyStudentSettings, StudentSettings
    from kdcache.student.transducer import TransducerStudent

_HOMES = {
    "AnyStudentSettings": "settings",
    "CTCStudent": "ctc",
    "CTCStudentSettings": "ctc_settings",
    "Student": "base",
    "StudentOutput": "output",
    "StudentSettings": "settings",
    "TransducerStudent": "transducer",
    "begin_from_ctc": "from_ctc",
    "build_student": "registry",
    "load_student": "registry",
    "pack_student": "packing",
    "save_student": "registry",
}

__all__ = [
    "AnyStudentSettings",
    "CTCStudent",
    "CTCStudentSettings",
    "Student",
    "StudentOutput",
    "StudentSettings",
    "TransducerStudent",
    "begin_from_ctc",
    "build_student",
    "load_student",
    "pack_student",
    "save_student",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
