"""``kdcache``: the root of the command line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from kdcache.cli.failures import exit_code_of, reader_gone
from kdcache.cli.lazy import LazyGroup
from kdcache.cli.plumbing import example
from kdcache.signals import termination_as_interrupt
from kdcache.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "demo": (
        "kdcache.cli.demo:demo",
        "The whole way on synthesised speech, in minutes, offline.",
    ),
    "corpus": ("kdcache.cli.corpus:corpus", "Make, import or check a manifest."),
    "extract": ("kdcache.cli.extract:extract", "Run a teacher over a corpus into a cache."),
    "status": ("kdcache.cli.cache:status", "Show how far an extraction is."),
    "inspect": ("kdcache.cli.inspect:inspect", "Show what a cache holds."),
    "plot": ("kdcache.cli.plot:plot", "Draw what the teacher believed of one utterance."),
    "report": ("kdcache.cli.report:report", "Write an HTML page about a cache."),
    "ls": ("kdcache.cli.contents:ls", "List a cache's utterances."),
    "cat": ("kdcache.cli.contents:cat", "Print decoded arrays of utterances."),
    "export": ("kdcache.cli.export:export", "Write utterances for other tools."),
    "compare": ("kdcache.cli.compare:compare", "Compare two caches of the same utterances."),
    "verify": ("kdcache.cli.cache:verify", "Check every stored byte of a cache."),
    "convert": ("kdcache.cli.convert:convert", "Copy a cache into another layout or codec."),
    "repair": ("kdcache.cli.upkeep:repair", "Take out what is damaged and extract it again."),
    "gc": ("kdcache.cli.upkeep:gc", "List or delete files that nothing refers to."),
    "compact": ("kdcache.cli.upkeep:compact", "Make a large cache quick to open."),
    "train": ("kdcache.cli.train:train", "Train a student from a cache."),
    "student": ("kdcache.cli.student:student", "Make a trained student small."),
    "score": ("kdcache.cli.score:score", "Score a student on a manifest."),
    "pipeline": ("kdcache.cli.pipeline:pipeline", "Run a recipe of a published system."),
}
"""Name → where the command is, and its short help; in the order of the work."""

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # a teacher is a folder: nothing is ever fetched
    "OMP_WAIT_POLICY": "PASSIVE",  # idle threads that spin starve every other process
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # Ray tells of deaths on stdout, among our data
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",  # else a warning at every fork
}
"""What libraries read when they are imported; a user's own values win."""


class Program(LazyGroup):
    """The root group. What leaves it is an exit code and, at worst, one sentence."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; ends in ``SystemExit`` unless ``standalone_mode`` is false."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)

        def run() -> Any:
            return super(Program, self).main(
                args, prog_name or "kdcache", complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return run()
        with termination_as_interrupt():
            code = exit_code_of(run)
        return sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would call a reader that went away a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return reader_gone()


@click.group(
    "kdcache",
    cls=Program,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("kdcache demo --out build/demo"),
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Run a speech-recognition teacher once; train students for ever after from its cache.

    Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 failed, 2 bad usage or
    input, 3 cache incomplete, 130 interrupted, 143 terminated.
    """
