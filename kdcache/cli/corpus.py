"""``kdcache corpus``: make, import and check manifests; train a tokenizer on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kdcache.cli.plumbing import echo_json, example, json_option, say
from kdcache.cli.progress import progress

PATH = click.Path(path_type=Path)


@click.group(epilog=example("kdcache corpus import LibriSpeech/dev-clean dev.jsonl"))
def corpus() -> None:
    """Make, import or check a manifest."""


@corpus.command(
    epilog=example(
        "kdcache corpus synth build/corpus --kind digits --split train=1200,dev=150,test=150"
    )
)
@click.argument("out", type=PATH)
@click.option("--kind", default="sentences", show_default=True, help="sentences or digits.")
@click.option("--utterances", type=int, help="In all; without --split: 80/10/10 %.  [1500]")
@click.option("--split", help="Utterances of each split, such as train=1200,dev=150,test=150.")
@click.option("--seed", default=7, show_default=True, help="Seed of every choice.")
@click.option("--words", help="Fewest and most words.  [4:10, digits 3:8]")
@click.option("--snr", default="5:20", show_default=True, help="Lowest and highest dB, or none.")
@click.option(
    "--noise", "noises", default="white,pink,babble", show_default=True, help="Kinds of noise."
)
@click.option(
    "--reverb", default=0.0, show_default=True, help="Share of utterances in a synthetic room."
)
@click.option("--voices", default=40, show_default=True, help="Accents × speakers.")
@click.option("--held-out-voices", is_flag=True, help="Give every split voices of its own.")
@click.option("--rate", default="140:200", show_default=True, help="Words a minute.")
@click.option("--sample-rate", default=16_000, show_default=True, help="Of the files, in Hz.")
@click.option("--processes", type=click.IntRange(min=1), help="How many.  [all cores]")
@click.option("--overwrite", is_flag=True, help="Replace another synthesised corpus in OUT.")
@json_option
def synth(out: Path, processes: int | None, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Synthesise a corpus into the folder OUT: FLAC files and a manifest for each split.

    Equal settings give equal samples, on any number of processes. Given again with the same
    settings, the command finds the corpus and changes nothing.
    """
    from kdcache.corpus.synth import synthesise

    settings = _synth_settings(**options)
    with progress("Synthesising", unit="utterances") as shown:
        summary = synthesise(
            out, settings, processes=processes, overwrite=overwrite, on_progress=shown.update
        )
    if as_json:
        echo_json(summary)
    else:
        click.echo(_synth_lines(out, summary))


@corpus.command(
    "import", epilog=example("kdcache corpus import data/train_5h train.jsonl --format kaldi")
)
@click.argument("source", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--format",
    "format_",
    default="auto",
    show_default=True,
    help="nemo, lhotse, kaldi, librispeech, datasets or auto.",
)
@click.option(
    "--audio-dir", type=PATH, help="Folder for audio that SOURCE embeds.  [OUT without suffix]"
)
@click.option("--lower", is_flag=True, help="Turn the texts to lower case.")
@json_option
def import_(
    source: Path, out: Path, format_: str, audio_dir: Path | None, lower: bool, as_json: bool
) -> None:
    """Turn the corpus SOURCE into the manifest OUT.

    SOURCE is a NeMo manifest, Lhotse cuts, a Kaldi data directory, a LibriSpeech tree, or a
    data set that Hugging Face's `datasets` saved to disk. Audio stays where it is; only
    audio that a data set embeds is written out.
    """
    from dataclasses import replace

    from kdcache.corpus import import_corpus, refuse_duplicates, write_manifest

    utterances = import_corpus(source, format_, audio_dir=audio_dir or out.with_suffix(""))
    if lower:
        utterances = [replace(one, text=one.text.lower()) for one in utterances]
    refuse_duplicates(utterances, source)
    count = write_manifest(out, utterances)
    unknown = sum(one.audio.duration is None for one in utterances)
    if unknown:
        say(f"{unknown} utterances have no duration: `kdcache corpus check {out}` says why.")
    hours = sum(one.duration for one in utterances) / 3600
    if as_json:
        result = {"utterances": count, "hours": hours, "without_duration": unknown}
        echo_json({"manifest": str(out), **result})
    else:
        click.echo(f"{out}: {count} utterances, {hours:.2f} h")


@corpus.command(
    epilog=example("kdcache corpus check train.jsonl --tokenizer build/tokenizer"),
)
@click.argument("manifest", type=PATH)
@click.option("--tokenizer", type=PATH, help="Spell every text: a .model file or a directory.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="Problems to print; 0 for all.",
)
@json_option
@click.pass_context
def check(
    context: click.Context, manifest: Path, tokenizer: Path | None, limit: int, as_json: bool
) -> None:
    """Check a MANIFEST, and the header and the end of every audio file that it names.

    Exit code 0 if there is nothing to complain of, 1 if there is, 2 if MANIFEST cannot be
    read at all.
    """
    from kdcache.corpus import check_corpus, iter_manifest, load_tokenizer

    spell = load_tokenizer(tokenizer) if tokenizer else None
    with progress("Checking", unit="files") as shown:
        result = check_corpus(list(iter_manifest(manifest)), spell, on_progress=shown.update)
    if as_json:
        echo_json(result.to_dict())
    else:
        click.echo(f"{manifest}: {result.describe(limit)}")
    if result.problems:
        context.exit(1)


@corpus.command(
    epilog=example("kdcache corpus views train.jsonl views.jsonl --speed 1 --speed 0.9 --speed 1.1")
)
@click.argument("manifest", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--speed",
    "speeds",
    required=True,
    multiple=True,
    type=float,
    help="How much faster than recorded; 1 keeps the utterance itself. Repeatable.",
)
@json_option
def views(manifest: Path, out: Path, speeds: tuple[float, ...], as_json: bool) -> None:
    """Write the manifest OUT with every utterance of MANIFEST at each speed.

    No audio is written: whoever decodes a view plays the recording at its speed. The id of a
    view ends in -sp and the speed. A student that is trained from a cache of views hears each
    as its teacher heard it.
    """
    from kdcache.corpus import read_manifest, refuse_duplicates, write_manifest
    from kdcache.corpus.views import iter_views

    utterances = list(iter_views(read_manifest(manifest), speeds))
    refuse_duplicates(utterances, out)
    count, hours = write_manifest(out, utterances), sum(u.duration for u in utterances) / 3600
    if as_json:
        echo_json({"manifest": str(out), "utterances": count, "hours": hours})
    else:
        click.echo(f"{out}: {count} utterances, {hours:.2f} h")


@corpus.command(
    epilog=example("kdcache corpus tokenizer train.jsonl --vocab-size 64 --out build/tokenizer")
)
@click.argument("manifest", type=PATH)
@click.option("--vocab-size", required=True, type=click.IntRange(min=2), help="Pieces.")
@click.option("--out", required=True, type=PATH, help="Folder for tokenizer.model.")
@click.option(
    "--type",
    "model_type",
    default="unigram",
    show_default=True,
    help="unigram, bpe or char.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of SentencePiece.")
@json_option
def tokenizer(
    manifest: Path, vocab_size: int, out: Path, model_type: str, seed: int, as_json: bool
) -> None:
    """Train a SentencePiece tokenizer on the texts of a MANIFEST."""
    from kdcache.corpus import iter_manifest, train_sentencepiece

    texts = [utterance.text for utterance in iter_manifest(manifest)]
    trained = train_sentencepiece(texts, vocab_size, model_type, seed)
    trained.save(out)
    if as_json:
        result = {"vocab_size": trained.vocab_size, "fingerprint": trained.fingerprint}
        echo_json({"tokenizer": str(out), **result})
    else:
        click.echo(f"{out}: {trained.vocab_size} pieces, fingerprint {trained.fingerprint[:12]}")


def _synth_settings(
    utterances: int | None,
    split: str | None,
    words: str | None,
    snr: str,
    noises: str,
    rate: str,
    **others: Any,
) -> Any:
    from kdcache.corpus.synth import SynthSettings, parse_int_range, parse_range, parse_splits

    return SynthSettings(
        splits=parse_splits(split, utterances),
        words=parse_int_range("words", words) if words else None,
        snr=None if snr == "none" else parse_range("snr", snr),
        noises=tuple(noise.strip() for noise in noises.split(",")),
        rate=parse_int_range("rate", rate),
        **others,
    )


def _synth_lines(out: Path, summary: dict[str, Any]) -> str:
    lines = [f"{out}: {summary['utterances']} utterances, {summary['hours']:.2f} h"]
    for name, split in summary["splits"].items():
        seconds = split["seconds"]
        lines.append(
            f"  {name}: {split['utterances']} utterances, {split['hours']:.2f} h, "
            f"{seconds['min']:.1f} to {seconds['max']:.1f} s, {split['words']} words of "
            f"{split['vocabulary']}, {split['voices']} voices"
        )
    return "\n".join(lines)
