"""Corpora: manifests of every sort → utterances; audio, tokenizers, a synthesised corpus."""

from __future__ import annotations

from kdcache.corpus.audio import (
    AudioHeader,
    decode_flac,
    encode_flac,
    load_audio,
    read_header,
    resample,
    to_int16,
)
from kdcache.corpus.check import CheckResult, Problem, check_corpus
from kdcache.corpus.importers import FORMATS, import_corpus
from kdcache.corpus.manifest import iter_manifest, read_manifest, refuse_duplicates, write_manifest
from kdcache.corpus.tokenizer import (
    HFTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
    tokenizer_from_files,
    train_sentencepiece,
)

__all__ = [
    "FORMATS",
    "AudioHeader",
    "CheckResult",
    "HFTokenizer",
    "Problem",
    "SentencePieceTokenizer",
    "Tokenizer",
    "check_corpus",
    "decode_flac",
    "encode_flac",
    "import_corpus",
    "iter_manifest",
    "load_audio",
    "load_tokenizer",
    "read_header",
    "read_manifest",
    "refuse_duplicates",
    "resample",
    "to_int16",
    "tokenizer_from_files",
    "train_sentencepiece",
    "write_manifest",
]
