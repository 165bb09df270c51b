"""Bytes, objects, requests and cost of large corpora, from what small caches really take.

    python tests/benchmarks/scale.py                            about two minutes; needs moto
    python tests/benchmarks/scale.py --speech ../shared/data/natural --price-storage 0.01

Caches of one unit are written by the real writer, in both layouts, and their files measured; an
S3 server on this machine counts requests. The rest is multiplication. Prices are parameters.

Utterances are 12 s long with 4.2 labels a second. Encoder posteriors are simulated
(``peaky_posteriors``, V = 1000), and so 25 frames a second; at 12.5 the half of the frames where
blank is least likely is kept, so that no label is lost: rather more than a teacher of that rate
takes. Lattices are simulated as well (``peaky_lattices``); at 12.5 frames a second they are every
second frame of these. Hidden states are random, since they take a byte a value whatever they are.
Audio is speech from FLAC files, where a folder of them is given or found. It
reports tables in Markdown and asserts nothing.

Shapes: T frames, U labels, V vocabulary, S columns of a frame's window, D hidden size.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from peaky_lattices import WIDTH, Lattices
from peaky_lattices import simulate as simulate_lattices
from peaky_posteriors import FRAMES, simulate
from scale_requests import count_requests
from scale_tables import Measured, Prices, print_tables

from kdcache.codec import LatticeRecord, make_codec
from kdcache.corpus import encode_flac, load_audio
from kdcache.corpus.audio import to_int16
from kdcache.store import CacheSpec, PackedUtterance, compact, create_or_open
from kdcache.target import make_target
from kdcache.teacher.protocol import TeacherOutput
from kdcache.testing.records import random_vector
from kdcache.testing.samples import TOKENIZER_FILES, sample_spec
from kdcache.types import AudioRef, TargetSpec, Utterance

SECONDS, LABELS, VOCABULARY, HIDDEN = 12, 50, 1000, 512
RATE, SIMULATED_RATE = 16_000, 25
SIMULATED = 20
"""Utterances; others are these, turned by some frames."""
LAYOUTS = ("zarr", "webdataset")
MEASURES = ("kl_mean", "kl_max", "kl_full_mean", "kl_full_max")

LATTICE = TargetSpec("lattice", "lattice", "lattice", {"top_k": 0}, {"name": "log8"})
LATTICE_ROOT = replace(LATTICE, codec={"name": "root"})
BAND = replace(LATTICE, settings={"top_k": 0, "width": WIDTH})
BAND_ROOT = replace(BAND, codec={"name": "root"})
ENCODER = TargetSpec(
    "encoder_logits", "encoder_logits", "posterior", {"min_p": 5e-5}, {"name": "root"}
)
VECTORS = TargetSpec("hidden", "hidden", "vector", {}, {"name": "int8"})


@dataclass(frozen=True)
class Recipe:
    """What a cache keeps."""

    name: str
    targets: tuple[TargetSpec, ...]
    audio: str = "none"


RECIPES = (
    Recipe("`lattice`, whole, `log8`", (LATTICE,)),
    Recipe("`lattice`, whole, `root`", (LATTICE_ROOT,)),
    Recipe("`lattice`, band of 5, `log8`", (BAND,)),
    Recipe("`lattice`, band of 5, `root`", (BAND_ROOT,)),
    Recipe("`encoder_logits`, `min_p` 5e-5", (ENCODER,)),
    Recipe("`hidden`, int8, D = 512", (VECTORS,)),
    Recipe("band in `root` and `encoder_logits`", (BAND_ROOT, ENCODER)),
    Recipe("the same with audio in FLAC", (BAND_ROOT, ENCODER), "flac"),
)


def spec_of(recipe: Recipe) -> CacheSpec:
    """A cache of these targets."""
    like = sample_spec(audio=recipe.audio)
    return replace(like, targets=recipe.targets).normalised()


def columns_of(
    target: TargetSpec, frames: float, count: int, rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """Packed columns of some utterances, no two the same: hashes are a good part of a row."""
    codec, length = make_codec(target.record, target.codec), round(SECONDS * frames)
    if target.kind == "encoder_logits":
        made = make_target(target)
        logp = [thinned(x, length) for x in simulate(VOCABULARY, SIMULATED, 1)]
        turned = (np.roll(logp[i % SIMULATED], i // SIMULATED, axis=0) for i in range(count))
        return [made.reduce(output_of(x), codec).columns for x in turned]
    if target.kind == "hidden":
        return [codec.encode(random_vector(rng, length, HIDDEN)) for _ in range(count)]
    found = lattices(count)
    records = found.bands if "width" in target.settings else found.whole
    return [
        codec.encode(every_second(record) if frames < SIMULATED_RATE else record)
        for record in records
    ]


@functools.cache
def lattices(count: int) -> Lattices:
    """No two the same."""
    return simulate_lattices(count, frames=SECONDS * SIMULATED_RATE)


def every_second(record: LatticeRecord) -> LatticeRecord:
    """Half of the frames; a band stays one, since it rises by a label or two in them."""
    starts_T = None if record.starts_T is None else record.starts_T[::2]
    return LatticeRecord(record.logp_TSC[::2], record.ids_TSK[::2], starts_T)


def thinned(logp_TV: np.ndarray, length: int) -> np.ndarray:
    """``length`` frames of 12 s, those where blank is least likely."""
    logp_TV = logp_TV[: min(FRAMES, SECONDS * SIMULATED_RATE)]
    kept_T = np.sort(np.argsort(logp_TV[:, 0], kind="stable")[:length])
    return logp_TV[kept_T]


def output_of(logp_TV: np.ndarray) -> TeacherOutput:
    """A teacher that says this."""
    frames = len(logp_TV)
    return TeacherOutput(frames, (), torch.zeros(frames, 1), torch.from_numpy(logp_TV))


def speech(folder: Path, count: int) -> list[np.ndarray]:
    """FLAC files of 12 s each, windows of the folder's recordings one after the other."""
    files, size, hop = sorted(folder.rglob("*.flac")), SECONDS * RATE, SECONDS * RATE // 2
    taken, total = [], 0
    for path in files:
        taken.append(to_int16(load_audio(AudioRef(str(path)), RATE)))
        total += len(taken[-1])
        if total >= size + hop * (count - 1):
            break
    samples = np.concatenate(taken) if taken else np.zeros(0, np.int16)
    starts = range(0, len(samples) - size + 1, hop)[:count]
    clips = [encode_flac(samples[start : start + size], RATE) for start in starts]
    return [np.frombuffer(clip, np.uint8) for clip in clips]


def packed_unit(
    recipe: Recipe, frames: float, count: int, clips: list[np.ndarray]
) -> list[PackedUtterance]:
    """Utterances with texts, labels, measures and contents of their own."""
    rng = np.random.default_rng(0)
    columns: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for target in recipe.targets:
        for kept, found in zip(columns, columns_of(target, frames, count, rng), strict=True):
            kept.update({f"{target.name}.{name}": array for name, array in found.items()})
    if recipe.audio == "flac":
        for row, kept in enumerate(columns):
            kept["audio"] = clips[row % len(clips)]
    words = ["".join(map(chr, rng.integers(97, 123, n))) for n in rng.integers(2, 9, 5000)]
    measures = [f"{t.name}.{measure}" for t in recipe.targets for measure in MEASURES]
    packed = []
    for row, kept in enumerate(columns):
        speaker = f"speaker-{row // 50:06d}"
        name = f"corpus/{speaker}/utt-{row:010d}"
        text = " ".join(words[int(n) % 5000] for n in rng.zipf(1.3, 32))
        audio = AudioRef(f"/corpus/{name}.flac", duration=float(SECONDS))
        tokens = [1 + int(n) % (VOCABULARY - 1) for n in rng.zipf(1.3, LABELS)]
        fidelity = {measure: float(rng.random()) for measure in measures}
        utterance, length = Utterance(name, audio, text, speaker), round(SECONDS * frames)
        duration = SECONDS + float(rng.uniform(-0.01, 0.01))
        packed.append(PackedUtterance(utterance, duration, tokens, length, kept, fidelity))
    return packed


def measure(recipe: Recipe, frames: float, layout: str, packed: list[PackedUtterance]) -> Measured:
    """Bytes of a cache of one unit."""
    count = len(packed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "cache"
        writer = create_or_open(place, spec_of(recipe), layout, TOKENIZER_FILES)
        writer.commit("0" * 64, packed, [], "scale")
        compact(place)
        data, parts, commits, index = (
            sum(file.stat().st_size for file in (place / room).glob(pattern))
            for room, pattern in (
                ("data", "*"), ("catalogue", "*"), ("commits", "*"), ("index", "good-*")
            )
        )  # fmt: skip
    seconds = count * SECONDS
    return Measured(
        recipe.name, frames, layout, data / seconds, parts / count, index / count, commits
    )


def parse_args() -> argparse.Namespace:
    """Prices are assumptions, and have no default that anybody charges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("KDCACHE_DATA") or "../shared/data") / "natural"
    parser.add_argument("--speech", type=Path, default=default, help="folder of FLAC files")
    parser.add_argument("--count", type=int, default=500, help="utterances of the measured unit")
    parser.add_argument("--price-storage", type=float, default=0.02, help="of a GB-month")
    parser.add_argument("--price-put", type=float, default=0.005, help="of 1,000 PUT requests")
    parser.add_argument("--price-get", type=float, default=0.0005, help="of 1,000 GET requests")
    return parser.parse_args()


def main() -> None:
    """Measure, multiply, print."""
    args = parse_args()
    clips = speech(args.speech, args.count)
    recipes = [r for r in RECIPES if clips or r.audio == "none"]
    both = next(recipe for recipe in recipes if len(recipe.targets) == 2)
    measured, unit = [], list[PackedUtterance]()
    for recipe in recipes:
        for frames in (25.0, 12.5):
            packed = packed_unit(recipe, frames, args.count, clips)
            measured += [measure(recipe, frames, layout, packed) for layout in LAYOUTS]
            unit = packed if (recipe, frames) == (both, 25.0) else unit
    requests = {layout: count_requests(spec_of(both), layout, unit) for layout in LAYOUTS}
    if clips:
        flac = sum(clip.nbytes for clip in clips) / len(clips) / SECONDS
        print(f"FLAC alone: {flac:,.0f} bytes per second of audio\n")
    prices = Prices(args.price_storage, args.price_put, args.price_get)
    print_tables(measured, requests, prices, SECONDS, args.count)
    print(f"{platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
