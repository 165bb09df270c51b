"""The command line: one file per command group, no logic of its own.

Data goes to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed, 2 bad
usage or input, 3 cache incomplete, 130 interrupted. What the commands share:

- :mod:`kdcache.cli.lazy`: sub-commands that are imported when they are called
- :mod:`kdcache.cli.failures`: errors → one sentence and an exit code
- :mod:`kdcache.cli.plumbing`: ``--json``, ``--set``, the example that ends every help
- :mod:`kdcache.cli.progress`: how far a long command is
"""
