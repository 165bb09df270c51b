"""Drawing what a teacher believed of one utterance, with matplotlib.

Panels share the axis of time: audio, posteriors of the encoder, the lattice, entropy. Colours are
told apart with any colour vision, and in grey: viridis's family for amounts, and black, orange and
blue of Okabe and Ito (2008) for lines. The same picture gives the same bytes: nothing of a
user's own matplotlib settings, of the clock or of chance is in them.
"""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from kdcache.errors import ConfigError, MissingDependencyError
from kdcache.inspect.spectrogram import RANGE, spectrogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kdcache.inspect.picture import Nodes, Picture, Posteriors, Sound

ORANGE, BLUE, GREY = "#D55E00", "#0072B2", "#E3E3E3"

FORMATS = ("png", "svg")

FAINTEST = 1e-4
"""Occupancy that is no longer told from nothing."""

_DOTS_PER_INCH = 120
_WIDTHS = 9.0, 30.0  # inches, of the shortest and the longest utterances
_INCHES_A_SECOND = 2.0
_TICKS = 48  # labels of an axis at most
_LETTERS_AN_INCH = 11  # of the title
_STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: it can be searched
    "svg.hashsalt": "kdcache",
    "text.parse_math": False,  # a piece may hold a dollar
}
_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}


def parse_format(path: Path) -> str:
    """``png`` or ``svg``, as a file's name ends.

    Raises:
        ConfigError: it ends otherwise.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise ConfigError(
            f"a picture is a .png or .svg file, got {str(path)!r}: name one of these."
        )
    return ending


def draw(picture: Picture, form: str, sound_as: str = "spectrogram") -> bytes:
    """The bytes of a PNG or SVG file.

    Args:
        picture: of an utterance.
        form: one of ``FORMATS``.
        sound_as: ``spectrogram`` or ``waveform``.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    with _plain_style():
        from matplotlib.figure import Figure

        panels = _panels(picture, sound_as)
        heights = [height for height, _ in panels]
        wide = np.clip(3.0 + _INCHES_A_SECOND * picture.seconds, *_WIDTHS)
        figure = Figure(figsize=(float(wide), 1.2 + sum(heights)), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[
            :, 0
        ]
        for (_, paint), ax in zip(panels, axes, strict=True):
            paint(figure, ax)
        _finish(figure, axes, picture)
        file = io.BytesIO()
        figure.savefig(file, format=form, dpi=_DOTS_PER_INCH, metadata=_METADATA[form])
        return file.getvalue()


@contextmanager
def _plain_style() -> Iterator[None]:
    """matplotlib's own settings and ours; a script that its font lacks is drawn as boxes."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError(
            f"Pictures need matplotlib: pip install 'kdcache[plot]' ({error})."
        ) from error
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _panels(picture: Picture, sound_as: str) -> list[tuple[float, Callable[[Figure, Axes], None]]]:
    """Height in inches of each, and what paints it."""
    found: list[tuple[float, Callable[[Figure, Axes], None]]] = []
    shift = picture.frame_shift
    sound, posteriors, nodes = picture.sound, picture.posteriors, picture.nodes
    if sound is not None:
        paint = _spectrogram if sound_as == "spectrogram" else _waveform
        found.append((1.7, lambda figure, ax: paint(figure, ax, sound)))
    if posteriors is not None:
        tall = 0.7 + 0.16 * len(posteriors.pieces)
        found.append((tall, lambda figure, ax: _posteriors(figure, ax, posteriors, shift)))
    if nodes is not None:
        tall = float(np.clip(1.0 + 0.16 * nodes.gamma_TU.shape[1], 2.0, 8.0))
        found.append((tall, lambda figure, ax: _nodes(figure, ax, nodes, picture)))
    if picture.belief.frames:
        found.append((1.5, lambda _, ax: _entropy(ax, picture)))
    return found


def _spectrogram(figure: Figure, ax: Axes, sound: Sound) -> None:
    image_MF = spectrogram(sound.samples_N, sound.rate)
    extent = (0.0, len(sound.samples_N) / sound.rate, 0.0, sound.rate / 2000)
    image = ax.imshow(
        image_MF.T, aspect="auto", origin="lower", extent=extent, cmap="magma", vmin=-RANGE, vmax=0
    )
    figure.colorbar(image, ax=ax, label="power (dB re peak)", pad=0.01)
    ax.set(title="Audio: spectrogram", ylabel="frequency (kHz)")


def _waveform(_: Figure, ax: Axes, sound: Sound) -> None:
    """Extremes of short stretches: of every sample, an SVG would be too large."""
    stretch = max(len(sound.samples_N) // 4000, 1)
    count = len(sound.samples_N) // stretch
    samples_XS = sound.samples_N[: count * stretch].reshape(count, stretch)
    seconds_X = (np.arange(count) + 0.5) * stretch / sound.rate
    ax.fill_between(
        seconds_X, samples_XS.min(axis=1), samples_XS.max(axis=1), color=BLUE, linewidth=0.6
    )
    ax.axhline(0.0, color="black", linewidth=0.4)
    ax.set(title="Audio: waveform", ylabel="amplitude (1 = full scale)")


def _posteriors(figure: Figure, ax: Axes, shown: Posteriors, shift: float) -> None:
    classes, frames = shown.p_RT.shape
    extent = (0.0, frames * shift, classes - 0.5, -0.5)
    image = ax.imshow(
        shown.p_RT, aspect="auto", extent=extent, cmap="viridis", vmin=0, vmax=1,
        interpolation="nearest",
    )  # fmt: skip
    figure.colorbar(image, ax=ax, label="probability", pad=0.01)
    ax.set_yticks(range(classes), [_clean(piece) for piece in shown.pieces])
    ax.set(title=f"Encoder: posteriors of target {_clean(shown.target)}", ylabel="class")


def _nodes(figure: Figure, ax: Axes, nodes: Nodes, picture: Picture) -> None:
    from matplotlib.colors import LogNorm

    frames, columns = nodes.gamma_TU.shape
    shift = picture.frame_shift
    gamma_UT = nodes.gamma_TU.T.clip(min=FAINTEST)
    ax.set_facecolor(GREY)
    image = ax.imshow(
        np.ma.masked_where(_outside(nodes).T, gamma_UT), aspect="auto", origin="lower",
        extent=(0.0, frames * shift, -0.5, columns - 0.5), cmap="viridis",
        norm=LogNorm(FAINTEST, 1.0), interpolation="nearest",
    )  # fmt: skip
    figure.colorbar(
        image, ax=ax, label="occupancy (% of paths)", pad=0.01, extend="min",
        format=lambda share, _: f"{100 * share:g}",
    )  # fmt: skip
    if len(nodes.path_T2):
        seconds, rows = (nodes.path_T2[:, 0] + 0.5) * shift, nodes.path_T2[:, 1]
        ax.plot(seconds, rows, color="white", linewidth=3.2)
        ax.plot(seconds, rows, color=ORANGE, linewidth=1.6, label="best path")
    if nodes.first_T is not None:
        ax.fill_between([], [], color=GREY, label="outside the band: not kept")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="lower right", framealpha=0.9)
    _label_columns(ax, picture, columns)
    ax.set(title=f"Lattice: nodes of target {_clean(nodes.target)}", ylabel="last label said")


def _outside(nodes: Nodes) -> np.ndarray:
    """Nodes that a band does not hold: bool (T, U+1)."""
    if nodes.first_T is None or nodes.last_T is None:
        return np.zeros(nodes.gamma_TU.shape, bool)
    u = np.arange(nodes.gamma_TU.shape[1])
    outside_TU: np.ndarray = (u < nodes.first_T[:, None]) | (u > nodes.last_T[:, None])
    return outside_TU


def _label_columns(ax: Axes, picture: Picture, columns: int) -> None:
    """Each column by the label that leads into it; every n-th where there are many."""
    names = ["start", *(_clean(token.piece) for token in picture.belief.tokens)]
    if len(names) != columns:
        return
    step = -(-columns // _TICKS)
    ax.set_yticks(range(0, columns, step), names[::step])


def _entropy(ax: Axes, picture: Picture) -> None:
    belief, shift = picture.belief, picture.frame_shift
    edges = np.arange(len(belief.frames) + 1) * shift
    nats = [frame.entropy for frame in belief.frames]
    ax.stairs(nats, edges, fill=True, color=BLUE, alpha=0.35)
    ax.stairs(nats, edges, color=BLUE)
    top = max(max(nats), 0.1)
    times = [one.seconds for one in belief.disagreements if one.seconds is not None]
    if times:
        ax.plot(
            times, [top * 1.12] * len(times), "v", color=ORANGE, clip_on=False,
            label="teacher and transcript disagree",
        )  # fmt: skip
        # Beside the title, where it hides no mark.
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), frameon=False, borderaxespad=0)
    ax.set(title=f"Entropy of target {_clean(belief.frames_of or '')}", ylabel="entropy (nats)")
    ax.set_ylim(0.0, top * 1.25)


def _finish(figure: Figure, axes: np.ndarray, picture: Picture) -> None:
    axes[-1].set_xlabel("time (s)")
    axes[0].set_xlim(0.0, picture.seconds)
    room = int(figure.get_figwidth() * _LETTERS_AN_INCH)
    text = _cut(_clean(picture.text), room)
    log_p = picture.belief.log_p_per_label
    sure = "" if log_p is None else f"    log P(y|x) = {log_p:.3f} nats a label".replace("-", "−")
    title = f"{_cut(_clean(picture.id), room // 2)}    {picture.seconds:.2f} s{sure}\n“{text}”"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _clean(text: str) -> str:
    """Without characters that an SVG cannot hold."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
