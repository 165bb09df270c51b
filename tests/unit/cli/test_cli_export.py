"""export to NeMo and Lhotse: pseudo-labels and arrays beside their audio."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.codec import HypothesesRecord, PosteriorRecord, make_codec
from kdcache.corpus import read_manifest
from kdcache.corpus.tokenizer_training import train_sentencepiece
from kdcache.inspect.arrays import Arrays
from kdcache.store import create_or_open, open_cache
from kdcache.testing.records import random_lattice
from kdcache.testing.samples import sample_packed, sample_spec
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from kdcache.corpus import Tokenizer

FRAMES = 20
HYPOTHESES = TargetSpec("beam", "hypotheses", "hypotheses", {}, {"name": "fp32"})
POSTERIOR = TargetSpec("ctc", "encoder_logits", "posterior", {"top_k": 1}, {"name": "fp16"})
LATTICE = TargetSpec("lattice", "lattice", "lattice", {"top_k": 0}, {"name": "fp16"})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def exported(*arguments: object) -> Result:
    result = run("export", *arguments)
    assert result.exit_code == 0, result.output
    return result


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_sentencepiece(["abba cab", "bad dab", "cabbage"] * 20, 9, "char")


def hypotheses(tokenizer: Tokenizer, text: str) -> HypothesesRecord:
    ids = np.array(tokenizer.encode(text), np.int32)
    return HypothesesRecord(np.array([-0.5], np.float32), np.array([len(ids)], np.int32), ids)


def frames_of(tokenizer: Tokenizer, text: str, blank: int) -> PosteriorRecord:
    """CTC that says ``text``, each label in one frame with a blank behind."""
    classes = np.full(FRAMES, blank, np.int32)
    ids = tokenizer.encode(text)
    classes[: 2 * len(ids) : 2] = ids
    logp = np.log(np.tile([0.9, 0.1], (FRAMES, 1))).astype(np.float32)
    return PosteriorRecord(logp, classes[:, None])


@pytest.fixture
def make(tmp_path: Path, tokenizer: Tokenizer) -> Any:
    """A cache of utterances a and b, of one target beside the lattice."""

    def build(target: TargetSpec, audio: str = "none") -> Path:
        teacher = replace(sample_spec().teacher, blank_id=99, tokenizer=tokenizer.fingerprint)
        spec = replace(
            sample_spec(audio=audio), teacher=teacher, targets=(LATTICE, target),
            tokenizer=tokenizer.fingerprint,
        ).normalised()  # fmt: skip
        writer = create_or_open(tmp_path / "cache", spec, "webdataset", tokenizer.files())
        items = []
        for name, says in (("a", "cab"), ("b", "dad")):
            heard = (
                hypotheses(tokenizer, says)
                if target is HYPOTHESES
                else frames_of(tokenizer, says, 99)
            )
            found: dict[str, Any] = {
                "lattice": random_lattice(np.random.default_rng(1), FRAMES, 3, 0),
                target.name: heard,
            }
            columns = {
                f"{key}.{array}": values
                for key, record in found.items()
                for array, values in make_codec(
                    spec.target(key).record, spec.target(key).codec
                ).encode(record).items()
            }  # fmt: skip
            if audio == "flac":
                sound(tmp_path / "one.flac")
                flac = np.frombuffer((tmp_path / "one.flac").read_bytes(), np.uint8)
                columns["audio"] = flac
            item = sample_packed(sample_spec(), name)
            items.append(
                replace(
                    item, columns=columns, tokens=(1, 2, 3), frames=FRAMES, fidelity={},
                    duration=0.8,
                )
            )  # fmt: skip
        writer.commit("u0", items, [], "test")
        return tmp_path / "cache"

    return build


def sound(path: Path, seconds: float = 0.8) -> None:
    soundfile.write(path, np.zeros(int(16_000 * seconds)), 16_000)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Of utterance a, and one that the cache does not have."""
    rows = []
    for name in ("a", "z"):
        sound(tmp_path / f"{name}.wav")
        rows.append({"id": name, "audio_filepath": f"{name}.wav", "text": f"say {name}"})
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_pseudo_labels_by_hypotheses(make: Any, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "pseudo.jsonl"
    result = exported(make(HYPOTHESES), out, "--to", "nemo", "--manifest", manifest)
    assert "1 utterances are not in" in result.stderr
    assert "1 of 2 utterances" in result.stderr
    (row,) = lines(out)
    assert row == {
        "id": "a", "audio_filepath": "a.wav", "duration": 0.8, "text": "cab",
        "transcript": "say a", "log_prob": -0.5,
    }  # fmt: skip
    assert [one.text for one in read_manifest(out)] == ["cab"]


def test_pseudo_labels_by_ctc(make: Any, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "pseudo.jsonl"
    exported(make(POSTERIOR), out, "--to", "nemo", "--manifest", manifest)
    (row,) = lines(out)
    assert row["text"] == "cab"
    assert "log_prob" not in row


def test_audio_that_the_cache_keeps_is_written(make: Any, tmp_path: Path) -> None:
    out = tmp_path / "pseudo.jsonl"
    exported(make(HYPOTHESES, audio="flac"), out, "--to", "nemo", "--where", 'id == "b"')
    (row,) = lines(out)
    assert (row["text"], row["audio_filepath"]) == ("dad", "pseudo/b.flac")
    assert soundfile.info(tmp_path / "pseudo" / "b.flac").duration == 0.8


def test_without_audio_there_is_no_manifest(make: Any, tmp_path: Path) -> None:
    result = run("export", make(HYPOTHESES), tmp_path / "out.jsonl", "--to", "nemo")
    assert result.exit_code == 2
    assert "say where it is with --manifest" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_view_has_the_audio_of_its_utterance(manifest: Path) -> None:
    from kdcache.cli.audio_of import AudioOf

    audio = AudioOf.__new__(AudioOf)
    audio._known = {one.id: one for one in read_manifest(manifest)}
    view = audio._listed("a-sp0.9")
    assert view is not None
    assert (view.id, view.audio.speed) == ("a-sp0.9", 0.9)
    assert audio._listed("b-sp0.9") is None


def test_a_lattice_alone_says_nothing_of_its_own(cache: Path, tmp_path: Path) -> None:
    from kdcache.errors import UnsupportedTargetError
    from kdcache.inspect.pseudo import PseudoLabels

    spec = replace(sample_spec(), targets=(LATTICE,)).normalised()
    create_or_open(tmp_path / "one", spec, "zarr", {"tokenizer.model": b"x"})
    with pytest.raises(UnsupportedTargetError, match="hypotheses or encoder_logits"):
        PseudoLabels(open_cache(tmp_path / "one"))


def test_lhotse_cuts_with_arrays(make: Any, manifest: Path, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    cache, out = make(POSTERIOR), tmp_path / "cuts"
    exported(cache, out, "--to", "lhotse", "--manifest", manifest)
    (cut,) = list(lhotse.CutSet.from_file(out / "cuts.jsonl"))
    arrays = Arrays(open_cache(cache)).read("a")
    assert (cut.id, cut.duration, cut.supervisions[0].text) == ("a", 0.8, "say a")
    assert cut.tokens == [1, 2, 3]
    np.testing.assert_array_equal(cut.load_lattice_logp(), arrays["lattice.logp"])
    np.testing.assert_array_equal(cut.load_ctc_ids(), arrays["ctc.ids"])
    half = cut.truncate(duration=0.4)
    np.testing.assert_array_equal(half.load_ctc_logp(), arrays["ctc.logp"][:10])
    assert cut.load_audio().shape == (1, 12_800)


def test_lhotse_with_audio_of_the_cache(make: Any, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    out = tmp_path / "cuts"
    exported(make(HYPOTHESES, audio="flac"), out, "--to", "lhotse", "--target", "beam")
    cuts = list(lhotse.CutSet.from_file(out / "cuts.jsonl"))
    assert [cut.id for cut in cuts] == ["a", "b"]
    assert cuts[0].load_beam_scores().tolist() == [-0.5]
    first = (out / "cuts.jsonl").read_bytes()
    exported(tmp_path / "cache", out, "--to", "lhotse", "--target", "beam")
    assert (out / "cuts.jsonl").read_bytes() == first


def test_a_folder_that_cannot_be_made(make: Any, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "cuts"
    cache = make(HYPOTHESES)
    result = run("export", cache, place, "--to", "lhotse", "--manifest", manifest)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: cannot write {place}: ")
