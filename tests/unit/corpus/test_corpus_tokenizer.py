"""Tokenizers of SentencePiece: training, round trips, fingerprints, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING

import pytest

from kdcache.corpus import (
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
    tokenizer_from_files,
    train_sentencepiece,
)
from kdcache.corpus.tokenizer import fingerprint_files, write_files
from kdcache.errors import ConfigError, TokenizerError, TranscriptError

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = [
    "the small boat came over the cold river",
    "a sheep on the ship saw the chip",
    "don't bring the goat to the old coat",
    "at one o'clock the farmer's goat slept",
] * 5


@pytest.fixture(scope="module")
def tokenizer() -> SentencePieceTokenizer:
    return train_sentencepiece(TEXTS, 40)


def test_it_is_a_tokenizer(tokenizer: SentencePieceTokenizer) -> None:
    assert isinstance(tokenizer, Tokenizer)


@pytest.mark.parametrize(("model_type", "size"), [("unigram", 40), ("bpe", 48), ("char", 64)])
def test_round_trip(model_type: str, size: int) -> None:
    trained = train_sentencepiece(TEXTS, size, model_type)
    for text in TEXTS[:4]:
        ids = trained.encode(text)
        assert all(0 < i < trained.vocab_size for i in ids)
        assert trained.decode(ids) == text


def test_vocabulary(tokenizer: SentencePieceTokenizer) -> None:
    pieces = tokenizer.pieces()
    assert tokenizer.vocab_size == len(pieces) == 40
    assert pieces[0] == "<unk>"
    assert {"<s>", "</s>", "<pad>"}.isdisjoint(pieces)
    assert set("".join(TEXTS)) - {" "} <= set(pieces)


def test_of_characters_there_are_only_so_many() -> None:
    trained = train_sentencepiece(TEXTS, 500, "char")
    assert trained.vocab_size == len(set("".join(TEXTS))) + 1
    assert all(len(piece) == 1 for piece in trained.pieces()[1:])


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_training_is_deterministic(model_type: str) -> None:
    one, two = (train_sentencepiece(TEXTS, 48 if model_type != "unigram" else 40, model_type)
                for _ in range(2))  # fmt: skip
    assert one.files() == two.files()
    assert one.fingerprint == two.fingerprint


def test_other_texts_give_another_fingerprint(tokenizer: SentencePieceTokenizer) -> None:
    assert train_sentencepiece(TEXTS[:3] * 5, 30).fingerprint != tokenizer.fingerprint


def test_fingerprint_is_of_the_bytes(tokenizer: SentencePieceTokenizer) -> None:
    model = tokenizer.files()["tokenizer.model"]
    expected = hashlib.sha256(f"tokenizer.model\0{len(model)}\0".encode() + model).hexdigest()
    assert tokenizer.fingerprint == expected


def test_fingerprints_of_files() -> None:
    files = {"a": b"1", "b": b"2"}
    assert fingerprint_files(files) == fingerprint_files({"b": b"2", "a": b"1"})
    others = [{"a": b"1"}, {"a": b"2", "b": b"1"}, {"a": b"1b", "": b"2"}, {"c": b"1", "b": b"2"}]
    assert len({fingerprint_files(f) for f in [files, *others]}) == 5


def test_save_and_load(tmp_path: Path, tokenizer: SentencePieceTokenizer) -> None:
    tokenizer.save(tmp_path / "new" / "folder")
    for path in (tmp_path / "new" / "folder", tmp_path / "new" / "folder" / "tokenizer.model"):
        loaded = load_tokenizer(path)
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_the_name_of_a_model_file_is_no_part_of_it(
    tmp_path: Path, tokenizer: SentencePieceTokenizer
) -> None:
    (tmp_path / "spm_64.model").write_bytes(tokenizer.files()["tokenizer.model"])
    assert load_tokenizer(tmp_path / "spm_64.model").fingerprint == tokenizer.fingerprint


def test_from_files_and_pickle(tokenizer: SentencePieceTokenizer) -> None:
    for copy in (tokenizer_from_files(tokenizer.files()), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.fingerprint == tokenizer.fingerprint
        assert copy.decode(copy.encode(TEXTS[1])) == TEXTS[1]


@pytest.mark.parametrize("text", ["", "   "])
def test_empty_text(tokenizer: SentencePieceTokenizer, text: str) -> None:
    with pytest.raises(TranscriptError, match="The transcript is empty"):
        tokenizer.encode(text)


def test_unknown_pieces_are_named(tokenizer: SentencePieceTokenizer) -> None:
    with pytest.raises(TranscriptError, match=r"cannot spell 'Z', '7' in 'the Zoat 7'"):
        tokenizer.encode("the Zoat 7")


def test_long_texts_are_shortened_in_messages(tokenizer: SentencePieceTokenizer) -> None:
    with pytest.raises(TranscriptError) as caught:
        tokenizer.encode("Q" + " the goat" * 50)
    assert len(caught.value.message) < 110


def test_decoding_nothing(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize(
    ("size", "model_type", "message"),
    [
        (5, "unigram", r"Got a vocabulary of 5 pieces, expected at least \d+ for these 20"),
        (5, "bpe", r"expected at least \d+"),
        (5, "char", r"expected at least \d+"),
        (9_000, "unigram", r"Got a vocabulary of 9000 pieces, expected at most \d+"),
        (9_000, "bpe", r"expected at most \d+"),
        (40, "words", "Got model type 'words', expected unigram, bpe, char"),
    ],
)
def test_impossible_vocabularies(size: int, model_type: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_sentencepiece(TEXTS, size, model_type)


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
def test_the_advised_minimum_works(model_type: str) -> None:
    least = len(set("".join(TEXTS))) + 1
    assert train_sentencepiece(TEXTS, least, model_type).vocab_size == least
    with pytest.raises(ConfigError, match=f"expected at least {least} "):
        train_sentencepiece(TEXTS, least - 1, model_type)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_training_needs_text(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="Every transcript is empty"):
        train_sentencepiece(texts, 40)


def test_long_transcripts_are_not_dropped() -> None:
    long = "a z" * 5_000  # longer than SentencePiece's usual limit of 4192 bytes
    assert "z" in train_sentencepiece([long, "b a"], 5, "char").pieces()


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"does not exist; expected a \.model file"):
        load_tokenizer(tmp_path / "none")


def test_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"no model at all")
    for path in (tmp_path, tmp_path / "tokenizer.model"):
        with pytest.raises(TokenizerError, match=r"tokenizer\.model is no SentencePiece model"):
            load_tokenizer(path)


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="expected a plain name"):
        write_files({"../escape": b""}, tmp_path / "t")
    assert not (tmp_path / "escape").exists()
