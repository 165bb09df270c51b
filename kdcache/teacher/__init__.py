"""Teachers: models that are run once, and asked what they believe.

    from kdcache.teacher import load_teacher
    teacher = load_teacher("models/parakeet-rnnt")
    [output] = teacher.forward([samples], [teacher.tokenizer.encode("four two")])

A teacher is a directory that ``from_pretrained`` loads. ``registry`` picks an adapter by the
directory's architecture; ``transducer``, ``ctc`` and ``attention`` are the adapters.
"""

from __future__ import annotations

from kdcache.teacher.protocol import LatticeLogits, Teacher, TeacherOutput
from kdcache.teacher.registry import load_teacher

__all__ = ["LatticeLogits", "Teacher", "TeacherOutput", "load_teacher"]
