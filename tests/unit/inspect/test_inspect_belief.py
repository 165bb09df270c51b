"""What is told of one utterance's belief: on records whose truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from kdcache.codec import HypothesesRecord, LatticeRecord, PosteriorRecord, ScoreRecord, make_codec
from kdcache.errors import ConfigError, UnsupportedTargetError
from kdcache.inspect.belief import read_belief
from kdcache.inspect.belief_text import belief_lines, entropy_bars
from kdcache.inspect.doubt import different_labels
from kdcache.inspect.frames import parse_frames
from kdcache.inspect.noise import find_noise
from kdcache.inspect.paths import full_sum
from kdcache.inspect.pieces import Pieces
from kdcache.store import create_or_open, open_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from pathlib import Path

    from kdcache.codec import Record
    from kdcache.store import Cache

LETTERS = " abcdefghij"
FRAMES, TOKENS = 6, (1, 2)
TARGETS = {
    "lattice": TargetSpec("lattice", "lattice", "lattice", {"top_k": 1}, {"name": "fp16"}),
    "ctc": TargetSpec("ctc", "encoder_logits", "posterior", {"top_k": 2}, {"name": "fp16"}),
    "score": TargetSpec("score", "full_sum", "score", {}, {"name": "fp32"}),
    "beam": TargetSpec("beam", "hypotheses", "hypotheses", {}, {"name": "fp32"}),
}


def spell(ids: object) -> str:
    return "".join(LETTERS[i] for i in ids)  # type: ignore[attr-defined]


def lattice(rival: float = 0.05) -> LatticeRecord:
    """a at frame 1, b at frame 4, where class 3 has probability ``rival``."""
    p_TSC = np.full((FRAMES, 3, 4), 0.0)
    p_TSC[..., 0], p_TSC[..., 1], p_TSC[..., 2], p_TSC[..., 3] = 0.96, 0.02, 0.01, 0.01
    p_TSC[1, 0] = 0.1, 0.8, 0.05, 0.05
    p_TSC[4, 1] = 0.1, 0.85 - rival, rival, 0.05
    p_TSC[:, 2, 1] = 0.0
    p_TSC[:, 2, 0] = 0.98
    with np.errstate(divide="ignore"):
        logp = np.log(p_TSC / p_TSC.sum(-1, keepdims=True)).astype(np.float32)
    return LatticeRecord(logp, np.full((FRAMES, 3, 1), 3, np.int32))


def posterior(second: int = 2) -> PosteriorRecord:
    """CTC: a in frames 1 and 2, ``second`` in frame 4."""
    classes = [0, 1, 1, 0, second, 0]
    logp = np.log(np.tile([0.9, 0.08, 0.02], (FRAMES, 1))).astype(np.float32)
    ids = np.array([[c, 5 if c != 5 else 6] for c in classes], np.int32)
    return PosteriorRecord(logp, ids)


def make(path: Path, *records: dict[str, Record]) -> Cache:
    """A cache of utterances u0, u1, … that hold these."""
    names = list(records[0])
    targets = tuple(TARGETS[name] for name in names)
    spec = replace(sample_spec(), targets=targets).normalised()
    writer = create_or_open(path, spec, "zarr", TOKENIZER_FILES)
    items = []
    for number, one in enumerate(records):
        columns = {
            f"{name}.{array}": values
            for name, record in one.items()
            for array, values in make_codec(TARGETS[name].record, TARGETS[name].codec)
            .encode(record)
            .items()
        }
        fidelity = {}
        score = one.get("score")
        if isinstance(score, ScoreRecord) and np.isfinite(score.score_1[0]):
            fidelity = {"score.nats_per_label": -float(score.score_1[0]) / 2}
        item = sample_packed(sample_spec(), f"u{number}")
        items.append(
            replace(item, columns=columns, fidelity=fidelity, tokens=TOKENS, frames=FRAMES)
        )
    writer.commit("a" * 64, items, [], "test")
    return open_cache(path)


def test_labels_in_time_by_the_lattice(tmp_path: Path) -> None:
    belief = read_belief(make(tmp_path / "c", {"lattice": lattice()}), "u0", spell)
    assert belief.aligned_by == "lattice"
    assert [(t.piece, t.frame, t.seconds) for t in belief.tokens] == [
        ("a", 1, 0.04),
        ("b", 4, pytest.approx(0.16)),
    ]
    assert [math.exp(t.log_p) for t in belief.tokens] == pytest.approx([0.8, 0.8], rel=1e-2)
    assert [t.rival_piece for t in belief.tokens] == ["c", "c"]
    assert belief.log_p == pytest.approx(full_sum(lattice()), abs=0.02)
    assert belief.log_p_per_label == pytest.approx((belief.log_p or 0) / 2)
    assert belief.disagreements == ()


def test_frames_of_the_lattice_are_those_of_the_best_path(tmp_path: Path) -> None:
    belief = read_belief(make(tmp_path / "c", {"lattice": lattice()}), "u0", spell)
    assert belief.frames_of == "lattice"
    assert [frame.pieces[0] for frame in belief.frames] == [
        "blank", "a", "blank", "blank", "b", "blank",
    ]  # fmt: skip
    p = np.array([0.8, 0.1, 0.05, 0.05])
    assert belief.frames[1].entropy == pytest.approx(-(p * np.log(p)).sum(), abs=0.01)
    assert "rest" in belief.frames[1].pieces


def test_a_likelier_rival_is_a_disagreement(tmp_path: Path) -> None:
    belief = read_belief(make(tmp_path / "c", {"lattice": lattice(0.6)}), "u0", spell)
    (found,) = belief.disagreements
    assert (found.transcript, found.teacher) == ("b", "c")
    text = "\n".join(belief_lines(belief))
    assert "b → c" in text
    assert "! c 0.6" in text


def test_labels_in_time_by_ctc(tmp_path: Path) -> None:
    belief = read_belief(make(tmp_path / "c", {"ctc": posterior()}), "u0", spell)
    assert belief.aligned_by == "ctc"
    assert [(t.piece, t.frame) for t in belief.tokens] == [("a", 1), ("b", 4)]
    assert (belief.says, belief.said_by) == ("ab", "ctc")
    assert belief.disagreements == ()
    assert belief.frames[1].pieces[0] == "a"
    assert belief.frames[1].probabilities[0] == pytest.approx(0.9, rel=1e-2)


def test_what_ctc_says_else_is_told_with_its_time(tmp_path: Path) -> None:
    belief = read_belief(make(tmp_path / "c", {"ctc": posterior(4)}), "u0", spell)
    (found,) = belief.disagreements
    assert (found.transcript, found.teacher) == ("b", "d")
    assert found.seconds == pytest.approx(0.16)


def test_the_best_hypothesis_counts_before_ctc(tmp_path: Path) -> None:
    scores = np.array([-0.5], np.float32)
    beam = HypothesesRecord(scores, np.array([3], np.int32), np.array([1, 3, 2], np.int32))
    records: dict[str, Record] = {"lattice": lattice(), "beam": beam, "ctc": posterior()}
    belief = read_belief(make(tmp_path / "c", records), "u0", spell)
    assert (belief.says, belief.said_by) == ("acb", "beam")
    assert [(d.transcript, d.teacher) for d in belief.disagreements] == [("", "c")]
    assert belief.frames_of == "ctc"


def test_a_score_counts_before_the_lattice_s_sum(tmp_path: Path) -> None:
    score = ScoreRecord(np.array([-7.0], np.float32))
    belief = read_belief(make(tmp_path / "c", {"lattice": lattice(), "score": score}), "u0", spell)
    assert (belief.log_p, belief.log_p_per_label) == (-7.0, -3.5)


def test_a_transcript_without_a_path_is_told(tmp_path: Path) -> None:
    none = lattice()
    none.logp_TSC[:, 1, 1] = -np.inf
    belief = read_belief(make(tmp_path / "c", {"lattice": none}), "u0", spell)
    assert belief.tokens == belief.frames == ()
    assert belief.notes == ("target lattice has no path that says the transcript",)
    assert "no path" in "\n".join(belief_lines(belief))


def test_a_lattice_of_another_transcript_is_a_note(tmp_path: Path) -> None:
    cache = make(tmp_path / "c", {"lattice": LatticeRecord(*_first_columns(lattice()))})
    belief = read_belief(cache, "u0", spell)
    assert belief.notes == ("target lattice has 1 labels, but the catalogue 2",)
    assert belief.tokens == ()


def _first_columns(record: LatticeRecord) -> tuple[np.ndarray, np.ndarray]:
    return record.logp_TSC[:, :2], record.ids_TSK[:, :2]


def test_a_belief_is_json(tmp_path: Path) -> None:
    belief = read_belief(make(tmp_path / "c", {"lattice": lattice()}), "u0", spell)
    told = json.loads(json.dumps(belief.to_dict()))
    assert told["tokens"][0]["piece"] == "a"
    assert len(told["frames"]) == FRAMES


def test_a_codec_that_is_not_here_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make(tmp_path / "c", {"lattice": lattice()})

    def refuse(key: object, name: str) -> None:
        raise ConfigError("no such codec")

    monkeypatch.setattr(cache, "read_target", refuse)
    assert read_belief(cache, "u0", spell).notes == ("target lattice: no such codec",)


def test_a_blank_between_words_is_seen() -> None:
    def pieces(ids: object) -> str:
        return "".join(["", "a", " b", " "][i] for i in ids).strip()  # type: ignore[attr-defined]

    piece = Pieces(pieces, (3, 1), blank=0)
    assert [piece(i) for i in (0, 1, 2, 3)] == ["blank", "a", "▁b", "▁"]


@pytest.mark.parametrize(
    ("text", "frames"),
    [("2:4", range(2, 4)), ("4:", range(4, 6)), (":2", range(2)), ("3", range(3, 4)),
     ("2:99", range(2, 6))],
)  # fmt: skip
def test_ranges_of_frames(text: str, frames: range) -> None:
    assert parse_frames(text, FRAMES) == frames


@pytest.mark.parametrize("text", ["", "x", "4:2", "6", "9:12", "-1", "1:2:3", "3:3"])
def test_no_range_of_frames(text: str) -> None:
    with pytest.raises(ConfigError, match="frames 0 to 5"):
        parse_frames(text, FRAMES)


def test_frames_one_by_one(tmp_path: Path) -> None:
    belief = read_belief(make(tmp_path / "c", {"ctc": posterior()}), "u0", spell)
    lines = belief_lines(belief, range(1, 3))
    assert sum("a 0.9" in line for line in lines[-2:]) == 2
    assert all(line == line.rstrip() for line in lines)


def test_bars_show_the_largest_of_each_stretch() -> None:
    assert entropy_bars([0.0, 1.0, 0.5]) == "▁█▅"
    assert entropy_bars([0.0, 0.0, 0.0, 1.0], wide=2) == "▁█"
    assert entropy_bars([]) == ""


def test_insertions_and_deletions_have_a_time() -> None:
    found = different_labels(([1, 2, 3], [0, 5, 9]), ([1, 3], [0, 9]), 0.1, spell)
    assert [(d.seconds, d.transcript, d.teacher) for d in found] == [(0.5, "b", "")]


# Unlikely transcripts


def test_noise_by_lattices(tmp_path: Path) -> None:
    records = [{"lattice": lattice(rival)} for rival in (0.05, 0.7, 0.4)]
    noise = find_noise(make(tmp_path / "c", *records), top=2)
    assert noise.target == "lattice"
    assert [one.id for one in noise.utterances] == ["u1", "u2"]
    expected = -full_sum(lattice(0.7)) / 2
    assert noise.utterances[0].nats_per_label == pytest.approx(expected, abs=0.02)


def test_noise_by_scores_puts_the_impossible_first(tmp_path: Path) -> None:
    values = (-1.0, -np.inf, -5.0)
    records = [{"score": ScoreRecord(np.array([v], np.float32))} for v in values]
    cache = make(tmp_path / "c", *records)
    noise = find_noise(cache)
    assert [one.id for one in noise.utterances] == ["u1", "u2", "u0"]
    assert [one.nats_per_label for one in noise.utterances] == [np.inf, 2.5, 0.5]
    some = find_noise(cache, 'id != "u1"', top=1)
    assert [one.id for one in some.utterances] == ["u2"]


def test_noise_takes_a_score_or_a_lattice(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedTargetError, match="full_sum or lattice"):
        find_noise(make(tmp_path / "c", {"ctc": posterior()}))
