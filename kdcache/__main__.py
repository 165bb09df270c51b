"""``python -m kdcache`` is the command ``kdcache``."""

from __future__ import annotations

from kdcache.cli.main import main

if __name__ == "__main__":
    main(prog_name="kdcache")
