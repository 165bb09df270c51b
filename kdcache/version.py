"""The version's one home. Rooms import it from here, not through the package's front door."""

from __future__ import annotations

__version__ = "0.1.0"
