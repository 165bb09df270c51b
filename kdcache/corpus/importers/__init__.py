"""Importers: one file a format, each turning a corpus into a list of utterances.

=============  ==================================================================
``nemo``        JSON lines with ``audio_filepath``; kdcache's own form
``lhotse``      JSON lines of cuts, gzipped or not
``kaldi``       a data directory with ``wav.scp``
``librispeech`` a tree of folders with ``*.trans.txt``
``datasets``    what Hugging Face's ``datasets`` saved with ``save_to_disk``
=============  ==================================================================

Nothing that a corpus names is executed, unpickled or evaluated.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.corpus.importers.detect import FORMATS, detect_format
from kdcache.errors import ManifestError, did_you_mean

if TYPE_CHECKING:
    from kdcache.types import Utterance

__all__ = ["FORMATS", "detect_format", "import_corpus"]


def import_corpus(
    source: str | Path,
    format: str = "auto",  # noqa: A002 - the word of the command line
    *,
    audio_dir: str | Path | None = None,
) -> list[Utterance]:
    """Read a corpus of any known format, in a fixed order.

    Durations are filled in from the audio headers where the corpus does not tell them; an
    utterance whose audio has no readable header keeps none, and
    :func:`~kdcache.corpus.check.check_corpus` says why. Duplicated ids are not refused here.

    Args:
        source: file or folder.
        format: one of ``FORMATS``, or ``auto`` to recognise it.
        audio_dir: folder for audio bytes that a ``datasets`` corpus embeds.

    Raises:
        ManifestError: it cannot be read, holds no utterance, or its format is not known.
        MissingDependencyError: the format needs a package that is not installed.
    """
    from kdcache.corpus.durations import with_durations

    source = Path(source)
    if not source.exists():
        raise ManifestError(f"{source} does not exist; expected a manifest or a corpus folder.")
    if format not in ("auto", *FORMATS):
        known = ", ".join(FORMATS)
        hint = did_you_mean(format, FORMATS)
        raise ManifestError(f"Got format {format!r}, expected auto or one of {known}.{hint}")
    name = detect_format(source) if format == "auto" else format
    utterances = _read(name, source, Path(audio_dir) if audio_dir is not None else None)
    if not utterances:
        raise ManifestError(f"{source} holds no utterance, read as format {name!r}.")
    return with_durations(utterances)


def _read(name: str, source: Path, audio_dir: Path | None) -> list[Utterance]:
    """Import only what is asked for: two of the formats need packages of their own."""
    if name == "kaldi":
        from kdcache.corpus.importers.kaldi import read_kaldi

        return read_kaldi(source)
    if name == "librispeech":
        from kdcache.corpus.importers.librispeech import read_librispeech

        return read_librispeech(source)
    if name == "lhotse":
        from kdcache.corpus.importers.lhotse_cuts import read_lhotse

        return read_lhotse(source)
    if name == "datasets":
        from kdcache.corpus.importers.hf_datasets import read_datasets

        return read_datasets(source, audio_dir)
    from kdcache.corpus.manifest import iter_manifest

    return list(iter_manifest(source))
