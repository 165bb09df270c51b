"""What holds for every corpus: what is written is read, what is packed is unpacked."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.corpus import decode_flac, encode_flac, read_manifest, train_sentencepiece
from kdcache.corpus.check import check_corpus
from kdcache.corpus.manifest import duplicated_ids, iter_manifest, write_manifest
from kdcache.corpus.synth import SynthSettings, acoustics
from kdcache.corpus.synth.rng import random_state
from kdcache.corpus.synth.text import make_text
from kdcache.corpus.synth.voices import ALL_VOICES, voices_of_splits
from kdcache.corpus.tokenizer import fingerprint_files
from kdcache.types import AudioRef, Utterance

seconds = st.floats(0, 1e5, allow_nan=False).map(lambda value: round(value, 6))
words = st.text("ab'\"\\/ \n\té漢\u2028😀{}", min_size=1, max_size=20)
paths = st.text("abc/._ é", min_size=1, max_size=20).map(lambda text: "/data/" + text.strip("/."))


@st.composite
def corpora(draw: st.DrawFn) -> list[Utterance]:
    names = draw(st.lists(words, min_size=1, max_size=6, unique=True))
    return [
        Utterance(
            name,
            AudioRef(os.path.normpath(draw(paths)), draw(seconds), draw(st.none() | seconds)),
            draw(st.just("") | words),
            draw(st.none() | words),
        )
        for name in names
    ]


@given(corpora())
@settings(max_examples=60)
def test_manifests_round_trip(utterances: list[Utterance]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.jsonl"
        assert write_manifest(path, utterances) == len(utterances)
        assert read_manifest(path) == utterances
        assert list(iter_manifest(path)) == utterances


@given(st.lists(st.sampled_from("abcdef")))
def test_duplicates_are_those_that_a_set_loses(names: list[str]) -> None:
    utterances = [Utterance(name, AudioRef("x")) for name in names]
    repeated = duplicated_ids(utterances)
    assert len(repeated) == len(set(repeated))
    assert set(repeated) == {name for name in names if names.count(name) > 1}


@given(st.lists(st.tuples(st.sampled_from(["a/1.wav", "b/1.wav", "c.wav"]), st.integers(0, 9)),
                unique=True, min_size=1))  # fmt: skip
@settings(max_examples=40)
def test_derived_ids_tell_all_utterances_apart(stretches: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.jsonl"
        rows = ({"audio_filepath": p, "offset": o} for p, o in stretches)
        path.write_text("\n".join(json.dumps(row) for row in rows))
        assert duplicated_ids(iter_manifest(path)) == []


@given(
    st.lists(st.integers(-32768, 32767), min_size=1, max_size=400), st.sampled_from([8000, 16000])
)
@settings(max_examples=60)
def test_flac_is_lossless(values: list[int], rate: int) -> None:
    samples = np.array(values, np.int16)
    decoded, decoded_rate = decode_flac(encode_flac(samples, rate))
    np.testing.assert_array_equal(decoded, samples)
    assert decoded_rate == rate


@given(st.lists(st.text("abcd '", min_size=1).filter(str.strip), min_size=1, max_size=8))
@settings(max_examples=30)
def test_a_character_tokenizer_spells_its_own_texts(texts: list[str]) -> None:
    tokenizer = train_sentencepiece(texts, 64, "char")
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


@given(st.dictionaries(st.text("abc._", min_size=1, max_size=4), st.binary(max_size=8), max_size=4))
def test_fingerprints_know_no_order(files: dict[str, bytes]) -> None:
    turned = dict(reversed(list(files.items())))
    assert fingerprint_files(files) == fingerprint_files(turned)
    assert fingerprint_files(files) != fingerprint_files({**files, "another": b""})


@given(st.integers(3, len(ALL_VOICES)), st.integers(1, 3), st.integers(0, 99))
def test_held_out_voices_are_a_partition(voices: int, count: int, seed: int) -> None:
    splits = dict.fromkeys(("train", "dev", "test")[:count], 1)
    found = voices_of_splits(
        SynthSettings(splits=splits, voices=voices, held_out_voices=True, seed=seed)
    )
    everyone = [voice for split in found.values() for voice in split]
    assert len(everyone) == len(set(everyone)) == voices
    assert all(found.values())


@given(st.integers(0, 10**6), st.sampled_from(["sentences", "digits"]), st.integers(4, 6))
def test_texts_have_the_words_that_were_asked_for(seed: int, kind: str, low: int) -> None:
    text = make_text(kind, (low, low + 3), random_state(seed))
    assert low <= len(text.split()) <= low + 3
    assert text == make_text(kind, (low, low + 3), random_state(seed))
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz' ")


@given(st.integers(1, 500), st.floats(-20, 40), st.floats(-40, 0), st.integers(0, 99))
def test_mixing_never_clips_after_scaling(n: int, snr: float, peak: float, seed: int) -> None:
    rng = random_state(seed)
    mixed = acoustics.mix(rng.standard_normal(n), acoustics.pink_noise(n, rng), snr)
    assert np.abs(acoustics.scaled_to_peak(mixed, peak)).max() <= 1.0 + 1e-9


@given(corpora())
@settings(max_examples=20)
def test_a_check_of_missing_audio_names_every_utterance(utterances: list[Utterance]) -> None:
    result = check_corpus(utterances)
    bad = {problem.id for problem in result.problems if problem.kind == "bad-audio"}
    assert bad == {utterance.id for utterance in utterances}
