"""``kdcache convert``: a cache in another layout or with other codecs, without its teacher."""

from __future__ import annotations

from typing import Any

import click
import yaml

from kdcache.cli.plumbing import echo_json, example, json_option
from kdcache.errors import ConfigError


@click.command(
    epilog=example(
        "kdcache convert runs/cache runs/cache-wds --layout webdataset",
        "kdcache convert runs/cache s3://bucket/cache --codec lattice=log8:floor=12",
    )
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--layout",
    type=click.Choice(["zarr", "webdataset"]),
    help="How shards are stored; as in SRC unless given.",
)
@click.option(
    "--codec",
    "codecs",
    metavar="TARGET=CODEC",
    multiple=True,
    help="Pack TARGET again, such as lattice=log8:floor=12 or hidden='{name: fp16}'.",
)
@click.option(
    "--unit-utterances",
    type=click.IntRange(min=1),
    help="Utterances of a shard; unless given, shards stay as they are.",
)
@click.option("--import-codecs", is_flag=True, help="Import codecs that are named module:Class.")
@json_option
def convert(
    source: str,
    target: str,
    layout: str | None,
    codecs: tuple[str, ...],
    unit_utterances: int | None,
    import_codecs: bool,
    as_json: bool,
) -> None:
    """Copy a cache into another layout, other shards or other codecs.

    SRC and DST are folders or URLs; no teacher is needed. Arrays are copied byte for byte and
    checked on the way, and DST has the content digest of SRC. A target that --codec names is
    decoded and packed again: the catalogue of DST then tells the loss of that step
    (recode_…) beside what it knew from SRC (source_…). Killed at any time, the same command
    goes on.
    """
    from kdcache.cli.progress import progress
    from kdcache.store import convert as convert_cache

    settings = dict(parse_codec(text) for text in codecs)
    with progress("Converting", unit="utterances") as shown:
        report = convert_cache(
            source,
            target,
            layout,
            codecs=settings,
            unit_utterances=unit_utterances,
            import_codecs=import_codecs,
            progress=shown.update,
        )
    if as_json:
        echo_json(report.to_dict())
        return
    packed = f", {', '.join(report.recoded)} packed again" if report.recoded else ""
    click.echo(
        f"{report.target}: {report.utterances} utterances in {report.units} units "
        f"({report.layout}){packed}\n"
        f"bytes {report.source_bytes} → {report.target_bytes}\n"
        f"content digest {report.content_digest}"
    )


def parse_codec(text: str) -> tuple[str, dict[str, Any]]:
    """Target and codec settings of ``target=name:setting=value,…`` or ``target={name: …}``.

    Raises:
        ConfigError: it is neither.
    """
    target, mark, codec = text.partition("=")
    if not (target and mark and codec):
        raise _no_codec(text)
    if codec.startswith("{"):
        return target, _mapping(codec, text)
    head, _, rest = codec.rpartition(":")
    if "=" not in rest:
        # No settings; a colon is then that of module:Class.
        return target, {"name": codec}
    pairs = rest.replace("=", ": ").replace(",", ", ")
    return target, {"name": head, **_mapping(f"{{{pairs}}}", text)}


def _mapping(written: str, text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError:
        raise _no_codec(text) from None
    if not isinstance(value, dict):
        raise _no_codec(text)
    return value


def _no_codec(text: str) -> ConfigError:
    return ConfigError(
        f"expected --codec target=name:setting=value, such as lattice=log8:floor=12, got {text!r}"
    )
