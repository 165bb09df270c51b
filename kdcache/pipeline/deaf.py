"""Importing this makes a process deaf to ^C; the server of ``kdcache.pipeline.apart`` begins so.

The server's processes are deaf as well until they are groups of their own, which ^C does not reach.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
