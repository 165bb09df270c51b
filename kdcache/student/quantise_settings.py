"""How a student is trained to have its weights rounded."""

from __future__ import annotations

from pydantic import Field

from kdcache.config import Settings


class QuantiseSettings(Settings):
    """8-bit weights while it is trained; see ``kdcache.student.quantisation``."""

    begin: int = Field(default=0, ge=0)
    """Optimiser steps before weights are rounded."""
