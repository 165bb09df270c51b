"""Tokenizers of transformers: characters (Wav2Vec2), pieces (Parakeet), bytes (Whisper)."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import pytest

from kdcache.corpus import HFTokenizer, Tokenizer, load_tokenizer, tokenizer_from_files
from kdcache.errors import TokenizerError, TranscriptError

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "hello moon and all the other sheep"


def wav2vec2(folder: Path) -> Path:
    from transformers import Wav2Vec2CTCTokenizer

    special = ["<pad>", "<s>", "</s>", "<unk>", "|"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *"abcdefghijklmnopqrstuvwxyz'"])}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    return folder


def parakeet(folder: Path) -> Path:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import ParakeetTokenizer

    backend = Backend(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=40, special_tokens=["<unk>"], show_progress=False)
    backend.train_from_iterator([TEXT] * 3, trainer)
    backend.add_special_tokens(["<pad>"])
    ParakeetTokenizer(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
    return folder


def whisper(folder: Path) -> Path:
    from tokenizers import pre_tokenizers
    from transformers import WhisperTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, "<|endoftext|>"])}
    WhisperTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return folder


MAKERS = {"wav2vec2": wav2vec2, "parakeet": parakeet, "whisper": whisper}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("hf") / request.param)


def test_round_trip(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, HFTokenizer)
    assert isinstance(tokenizer, Tokenizer)
    ids = tokenizer.encode(TEXT)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == TEXT  # with ll and oo: nothing is collapsed


def test_no_special_tokens_are_added(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    hello = tokenizer.encode("hello")
    assert len(hello) <= 6
    assert tokenizer.encode("hello moon")[: len(hello) - 1] == hello[:-1]


def test_files_carry_it(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.save(tmp_path / "copy")
    copies = [
        load_tokenizer(tmp_path / "copy"),
        tokenizer_from_files(tokenizer.files()),
        pickle.loads(pickle.dumps(tokenizer)),
    ]
    for copy in copies:
        assert copy.fingerprint == tokenizer.fingerprint
        assert copy.encode(TEXT) == tokenizer.encode(TEXT)


def test_other_files_of_a_model_do_not_count(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.save(tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"1")
    (tmp_path / "model" / "README.md").write_text("x")
    assert load_tokenizer(tmp_path / "model").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("text", ["", "  "])
def test_empty_text(folder: Path, text: str) -> None:
    with pytest.raises(TranscriptError, match="The transcript is empty"):
        load_tokenizer(folder).encode(text)


@pytest.mark.parametrize("maker", ["wav2vec2", "parakeet"])
def test_unknown_pieces_are_named(maker: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(MAKERS[maker](tmp_path / maker))
    with pytest.raises(TranscriptError, match="cannot spell 'é', '9' in 'héllo 9'"):
        tokenizer.encode("héllo 9")


def test_bytes_spell_everything(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(whisper(tmp_path / "whisper"))
    assert tokenizer.decode(tokenizer.encode("héllo 9")) == "héllo 9"


def test_fingerprints_differ(tmp_path: Path) -> None:
    prints = {load_tokenizer(make(tmp_path / name)).fingerprint for name, make in MAKERS.items()}
    assert len(prints) == 3


def test_a_sentencepiece_model_beside_it_is_taken_first(tmp_path: Path) -> None:
    from kdcache.corpus import SentencePieceTokenizer, train_sentencepiece

    folder = wav2vec2(tmp_path / "both")
    train_sentencepiece([TEXT], 20, "char").save(folder)
    assert isinstance(load_tokenizer(folder), SentencePieceTokenizer)


def test_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"holds no tokenizer: expected tokenizer\.model"):
        load_tokenizer(tmp_path)


def test_damaged_tokenizer(tmp_path: Path) -> None:
    folder = parakeet(tmp_path / "p")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="holds no tokenizer") as caught:
        load_tokenizer(folder)
    assert "\n" not in caught.value.message
