"""`kdcache student`: what is done to a student once it is trained."""

from __future__ import annotations

from pathlib import Path

import click

from kdcache.cli.plumbing import echo_json, example, json_option, writing


@click.group(epilog=example("kdcache student pack runs/small packed/small"))
def student() -> None:
    """Make a trained student small."""


@student.command(epilog=example("kdcache student pack runs/small packed/small"))
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--int8/--no-int8",
    default=True,
    show_default=True,
    help="Round matrices and kernels to 8 bits, a scale a channel.",
)
@click.option(
    "--sparse/--no-sparse",
    default=True,
    show_default=True,
    help="Leave zeros out where that saves bytes.",
)
@json_option
def pack(run: Path, out: Path, int8: bool, sparse: bool, as_json: bool) -> None:
    """Write the student of RUN (a run's or a student's directory) to OUT, its weights packed.

    OUT is a student's directory: `kdcache score` and `init` of `kdcache train` read it. Prints the
    bytes of the file of its network's weights, before and after.
    """
    from kdcache.student import load_student, pack_student
    from kdcache.student.packing import weights_file

    folder = run / "student" if (run / "student").is_dir() else run
    loaded = load_student(folder)
    with writing(out):
        file = pack_student(loaded, out, int8=int8, sparse=sparse)
    before, after = weights_file(folder).stat().st_size, file.stat().st_size
    if as_json:
        echo_json({"file": str(file), "bytes": after, "bytes_before": before})
    else:
        click.echo(f"{file}: {after:,} bytes, {after / before:.1%} of {before:,}")
