"""What a picture shows, on records whose truth is known; and that it is drawn."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.image
import numpy as np
import pytest

from kdcache.codec import LatticeRecord, PosteriorRecord
from kdcache.errors import ConfigError, MissingDependencyError
from kdcache.inspect.belief import Belief, Token
from kdcache.inspect.doubt import Disagreement
from kdcache.inspect.frames import Frame
from kdcache.inspect.picture import Nodes, Picture, Posteriors, Sound, read_picture
from kdcache.inspect.plot import draw, parse_format
from kdcache.store import create_or_open, open_cache
from kdcache.testing.records import random_vector
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec
from kdcache.types import TargetSpec

if TYPE_CHECKING:
    from kdcache.codec import Record
    from kdcache.store import Cache

FRAMES, TOKENS = 6, (1, 2)
TARGETS = {
    "lattice": TargetSpec("lattice", "lattice", "lattice", {"top_k": 0}, {"name": "fp16"}),
    "ctc": TargetSpec("ctc", "encoder_logits", "posterior", {"top_k": 2}, {"name": "fp16"}),
    "hidden": TargetSpec("hidden", "hidden", "vector", {}, {"name": "int8"}),
}


def spell(ids: object) -> str:
    return "".join(" abcdefghij"[i] for i in ids)  # type: ignore[attr-defined]


def lattice() -> LatticeRecord:
    """A band of two columns: a at frame 1, b at frame 4."""
    p_TSC = np.tile([0.9, 0.05, 0.05], (FRAMES, 2, 1))
    p_TSC[1, 0] = p_TSC[4, 0] = 0.1, 0.85, 0.05
    p_TSC[3:, 1] = 0.95, 0.0, 0.05
    starts_T = np.array([0, 0, 0, 1, 1, 1], np.int32)
    with np.errstate(divide="ignore"):
        logp_TSC = np.log(p_TSC).astype(np.float32)
    return LatticeRecord(logp_TSC, np.zeros((FRAMES, 2, 0), np.int32), starts_T)


def posterior() -> PosteriorRecord:
    """Classes 2, 2, blank, 1, 1, blank; class 7 is never likely."""
    logp_NC = np.log(np.tile([0.9, 0.04, 0.06], (FRAMES, 1))).astype(np.float32)
    ids_NK = np.array([[c, 7] for c in (2, 2, 0, 1, 1, 0)], np.int32)
    return PosteriorRecord(logp_NC, ids_NK)


def make(path: Path, **records: Record) -> Cache:
    targets = tuple(TARGETS[name] for name in records)
    writer = create_or_open(
        path, replace(sample_spec(), targets=targets).normalised(), "zarr", TOKENIZER_FILES
    )
    columns = {
        f"{name}.{array}": values
        for name, record in records.items()
        for array, values in writer.spec.codec(name).encode(record).items()
    }
    item = replace(
        sample_packed(sample_spec(), "u0"),
        columns=columns, fidelity={}, tokens=TOKENS, frames=FRAMES, duration=0.25,
    )  # fmt: skip
    writer.commit("a" * 64, [item], [], "test")
    return open_cache(path)


def test_a_lattice_with_its_band_and_path(tmp_path: Path) -> None:
    nodes = read_picture(make(tmp_path / "c", lattice=lattice()), "u0", spell).nodes
    assert nodes is not None
    assert nodes.first_T is not None
    assert nodes.last_T is not None
    assert nodes.first_T.tolist() == [0, 0, 0, 1, 1, 1]
    assert nodes.last_T.tolist() == [1, 1, 1, 2, 2, 2]
    assert nodes.path_T2.tolist() == [
        [0, 0], [1, 0], [1, 1], [2, 1], [3, 1], [4, 1], [4, 2], [5, 2],
    ]  # fmt: skip
    assert nodes.gamma_TU.shape == (FRAMES, 3)
    assert nodes.gamma_TU[2, 1] > 0.8


def test_posteriors_in_the_order_of_their_appearance(tmp_path: Path) -> None:
    picture = read_picture(make(tmp_path / "c", ctc=posterior()), "u0", spell)
    shown = picture.posteriors
    assert picture.nodes is None
    assert shown is not None
    assert shown.pieces == ("blank", "b", "a")  # not class 7
    assert shown.p_RT[1].argmax() == 0
    assert shown.p_RT[1, :2] == pytest.approx(0.9, abs=0.01)
    assert shown.p_RT[2, 3:5] == pytest.approx(0.9, abs=0.01)


def test_without_anything_to_show(tmp_path: Path) -> None:
    vectors = random_vector(np.random.default_rng(0), FRAMES, 4)
    cache = make(tmp_path / "c", hidden=vectors)
    with pytest.raises(ConfigError, match="nothing to draw of 'u0'.*--manifest"):
        read_picture(cache, "u0", spell)
    heard = read_picture(cache, "u0", spell, sound())
    assert ET.fromstring(draw(heard, "svg")).tag.endswith("svg")


def sound(seconds: float = 0.25) -> Sound:
    samples_N = 0.5 * np.sin(np.arange(int(16_000 * seconds)) / 5)
    return Sound(samples_N.astype(np.float32), 16_000)


def whole(seconds: float = 0.25) -> Picture:
    """A picture with every part."""
    tokens = (Token(1, "a", 1, 0.04, -0.1), Token(2, "b", 4, 0.16, -0.1))
    belief = Belief(
        aligned_by="lattice", path_log_p=-1.0, log_p=-0.5, log_p_per_label=-0.25, tokens=tokens,
        disagreements=(Disagreement(0.16, "b", "c"),), frames_of="ctc",
        frames=tuple(Frame(t, t * 0.04, 0.1 * t, ("a",), (0.9,)) for t in range(FRAMES)),
    )  # fmt: skip
    gamma_TU = np.full((FRAMES, 3), 0.25)
    first_T = np.array([0, 0, 0, 1, 1, 1])
    return Picture(
        "u0", "say a b", seconds, 0.04, belief, sound(seconds),
        Posteriors("ctc", ("blank", "a"), np.full((2, FRAMES), 0.5)),
        Nodes("lattice", gamma_TU, first_T, first_T + 1, np.array([[0, 0], [1, 0], [1, 1]])),
    )  # fmt: skip


def words(picture: Picture, sound_as: str = "spectrogram") -> list[str]:
    """All text of an SVG."""
    tree = ET.fromstring(draw(picture, "svg", sound_as))
    return ["".join(node.itertext()).strip() for node in tree.iter() if node.tag.endswith("text")]


def test_axes_have_names_and_units() -> None:
    shown = words(whole())
    for expected in (
        "Audio: spectrogram", "frequency (kHz)", "power (dB re peak)",
        "Encoder: posteriors of target ctc", "probability",
        "Lattice: nodes of target lattice", "last label said", "occupancy (% of paths)",
        "best path", "outside the band: not kept", "start",
        "Entropy of target ctc", "entropy (nats)", "teacher and transcript disagree", "time (s)",
    ):  # fmt: skip
        assert expected in shown
    assert any("−0.250 nats a label" in text for text in shown)
    assert "“say a b”" in " ".join(shown)


def test_a_waveform_in_the_place_of_a_spectrogram() -> None:
    shown = words(whole(), "waveform")
    assert "amplitude (1 = full scale)" in shown
    assert "frequency (kHz)" not in shown


def test_what_is_not_there_is_left_out() -> None:
    shown = words(replace(whole(), sound=None, posteriors=None))
    assert not [text for text in shown if text.startswith(("Audio", "Encoder"))]
    assert "Lattice: nodes of target lattice" in shown
    nodes = whole().nodes
    assert nodes is not None
    unbanded = words(replace(whole(), nodes=replace(nodes, first_T=None, last_T=None)))
    assert "outside the band: not kept" not in unbanded


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_same_picture_gives_the_same_bytes(form: str) -> None:
    first = draw(whole(), form)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 10}):
        assert draw(whole(), form) == first
        assert matplotlib.rcParams["font.size"] == 20  # the user's own stay


def test_words_that_would_break_a_drawing() -> None:
    tokens = (Token(1, "$\\frac$", 1, 0.04, -0.1), Token(2, "\x00\x1b", 4, 0.16, -0.1))
    told = replace(whole().belief, tokens=tokens)
    shown = words(replace(whole(), id="<u>&", text="x" * 500 + "語", belief=told))
    assert "$\\frac$" in shown
    assert "��" in shown
    assert any(text.startswith("<u>&") for text in shown)
    assert max(map(len, shown)) < 120  # what is wider than the picture is cut


def test_a_long_utterance_is_wider_but_not_without_end() -> None:
    sizes = [
        matplotlib.image.imread(io.BytesIO(draw(whole(seconds), "png"))).shape
        for seconds in (0.25, 6.0, 600.0)
    ]
    assert [wide for _, wide, _ in sizes] == [1080, 1800, 3600]


def test_many_labels_are_thinned() -> None:
    tokens = tuple(Token(1, f"p{u}", 1, 0.04, -0.1) for u in range(400))
    nodes = Nodes("lattice", np.zeros((FRAMES, 401)), None, None, np.empty((0, 2), np.int64))
    shown = words(replace(whole(), belief=replace(whole().belief, tokens=tokens), nodes=nodes))
    assert 30 < sum(text.startswith("p") and text[1:].isdigit() for text in shown) <= 48
    assert "best path" not in shown


def test_the_band_s_outside_is_grey() -> None:
    image = matplotlib.image.imread(io.BytesIO(draw(whole(), "png")))
    grey = (np.abs(image[..., :3] - 0xE3 / 255) < 0.01).all(axis=-1).mean()
    nodes = whole().nodes
    assert nodes is not None
    other = replace(whole(), nodes=replace(nodes, first_T=None, last_T=None))
    image = matplotlib.image.imread(io.BytesIO(draw(other, "png")))
    assert grey > (np.abs(image[..., :3] - 0xE3 / 255) < 0.01).all(axis=-1).mean() + 0.03


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'kdcache\[plot\]'"):
        draw(whole(), "png")


@pytest.mark.parametrize(("name", "form"), [("a.png", "png"), ("b.SVG", "svg"), ("a.b.png", "png")])
def test_a_file_s_ending(name: str, form: str) -> None:
    assert parse_format(Path(name)) == form


@pytest.mark.parametrize("name", ["a", "a.jpg", "png"])
def test_another_ending(name: str) -> None:
    with pytest.raises(ConfigError, match=r"a \.png or \.svg file"):
        parse_format(Path(name))
