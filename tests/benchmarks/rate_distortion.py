"""Bytes a frame against what is lost: our settings and the peers', on the same posteriors.

    python tests/benchmarks/rate_distortion.py                      all that is there, minutes
    python tests/benchmarks/rate_distortion.py --vocab 500 --posteriors          simulated, seconds
    python tests/benchmarks/rate_distortion.py --vocab --posteriors teacher.npz

What is lost is the divergence, over the whole vocabulary, of the teacher from what a reader gets,
the rest spread by the reader's model of it: mean and 99th percentile over frames, in nats. The
posteriors are simulated (``peaky_posteriors``) or an npz file's, an array (T, V) of logits or
log-probabilities an utterance, of which the first half only teaches the models of the rest. What
a teacher of real speech says is there after ``make bench-teacher``. Bytes are the payload's,
without containers; speed is audio at 25 frames a second over the time that a core was busy, of
unpacking to a padded batch as streams do. It reports and asserts nothing.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peaky_posteriors import entropy, load, simulate
from peer_representations import representations
from rows import Row, arguments, publish

from kdcache.batch import TailTable
from kdcache.codec import PosteriorRecord, RecordCodec, TailModel, make_codec
from kdcache.loss import spread_rest
from kdcache.stream.buffers import Buffers
from kdcache.stream.packed import collate_packed
from kdcache.target import make_target, target_spec
from kdcache.target.posterior import PosteriorTarget
from kdcache.target.tail import TailEstimator
from kdcache.teacher.protocol import TeacherOutput

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
GOAL = 1e-3
REPEATS = 7
FRAMES_A_SECOND = 25
OURS = "kdcache"
REAL = tuple(
    Path("build") / room / f"{name}.npz"
    for room in ("real", "half")
    for name in ("held-out", "heard")
)


@dataclass(frozen=True)
class Posteriors:
    """What a teacher says, really or by simulation.

    Attributes:
        name: whose it is.
        suffix: of its rows' names.
        train: for models of the rest.
        test: what is measured.
    """

    name: str
    suffix: str
    train: list[np.ndarray]
    test: list[np.ndarray]


@dataclass(frozen=True)
class Point:
    """One way to keep posteriors.

    Attributes:
        who: whose.
        name: of the setting.
        size: bytes a frame.
        mean, high: of the loss, in nats: mean and 99th percentile.
        encode, decode: × real time at 25 frames a second; ``None`` where not measured.
        settings: of ours.
    """

    who: str
    name: str
    size: float
    mean: float
    high: float
    encode: float | None = None
    decode: float | None = None
    settings: dict[str, Any] | None = None


def divergence(logp_TV: np.ndarray, logq_TV: np.ndarray) -> np.ndarray:
    """KL of each frame, float64."""
    p_TV, exact = np.exp(logp_TV.astype(np.float64)), logp_TV.astype(np.float64)
    exact -= np.log(p_TV.sum(-1, keepdims=True))
    with np.errstate(invalid="ignore"):
        kl_T: np.ndarray = np.where(p_TV > 0, p_TV * (exact - logq_TV), 0.0).sum(-1)
    return kl_T


def our_settings() -> Iterator[dict[str, Any]]:
    """Targets with their codecs, as a configuration has them."""
    for k in (1, 2, 4, 8, 16, 32):
        yield {"top_k": k, "codec": {"name": "log8"}}
    for bits in range(2, 13):
        for share in (0.5, 0.6, 0.8, 1.2):
            for tail in (None, "top"):
                codec = {"name": "root", "bits": bits, **({"tail": tail} if tail else {})}
                yield {"min_p": float(f"{share * 4.0**-bits:.1e}"), "codec": codec}
        codec = {"name": "root", "bits": bits, "tail": "prior"}
        yield {"min_p": float(f"{0.7 * 4.0**-bits:.1e}"), "codec": codec}
    for top_p in (0.9, 0.99, 0.999):
        yield {"top_p": top_p, "codec": {"name": "root", "bits": 6}}
    yield {"top_k": "all", "codec": {"name": "fp16"}}
    yield {"top_k": "all", "codec": {"name": "log8"}}


def measure_ours(
    settings: dict[str, Any], train: list[np.ndarray], test: list[np.ndarray], repeats: int = 1
) -> Point:
    """Reduce, pack, unpack and compare; times are the best of ``repeats``."""
    spec = target_spec({"kind": "encoder_logits", **settings})
    target = make_target(spec)
    assert isinstance(target, PosteriorTarget)
    codec_settings = dict(spec.codec)
    if isinstance(kind := codec_settings.get("tail"), str):
        codec_settings["tail"] = estimated(kind, target, train).to_dict()
    codec = make_codec("posterior", codec_settings)
    kept = [record_of(target, codec, logp_TV) for logp_TV in test]
    encode, columns = timed(lambda: [codec.encode(record) for record in kept], repeats)
    buffers = Buffers()
    decode, _ = timed(lambda: collate_packed(codec, columns, buffers.empty), repeats)
    decoded = [codec.decode(packed) for packed in columns]
    seconds = sum(map(len, test)) / FRAMES_A_SECOND
    size = sum(array.nbytes for packed in columns for array in packed.values())
    lost = [divergence(x, dense(y, x.shape[1])) for x, y in zip(test, decoded, strict=True)]
    speeds = {"encode": seconds / encode, "decode": seconds / decode}
    return point(OURS, told(settings), size, lost, settings=settings, **speeds)


def point(who: str, name: str, size: int, lost: list[np.ndarray], **more: Any) -> Point:
    """A point from the loss of every frame."""
    kl = np.concatenate(lost)
    mean, high = max(0.0, float(kl.mean())), float(np.quantile(kl, 0.99))
    return Point(who, name, size / len(kl), mean, high, **more)


def record_of(target: PosteriorTarget, codec: RecordCodec, logp_TV: np.ndarray) -> PosteriorRecord:
    """What the target keeps, before it is packed."""
    taken: list[PosteriorRecord] = []

    class Tap:
        def encode(self, record: PosteriorRecord) -> dict[str, np.ndarray]:
            taken.append(record)
            return codec.encode(record)

        decode = codec.decode

    target.reduce(output_of(logp_TV), Tap())  # type: ignore[arg-type]
    return taken[0]


def output_of(logp_TV: np.ndarray) -> TeacherOutput:
    """A teacher that says this."""
    frames = len(logp_TV)
    return TeacherOutput(frames, (), torch.zeros(frames, 1), torch.from_numpy(logp_TV))


def estimated(kind: str, target: PosteriorTarget, train: list[np.ndarray]) -> TailModel:
    """A model of what the target leaves of ``train``."""
    estimator = TailEstimator(kind, train[0].shape[1])
    for logp_TV in train:
        target.observe(output_of(logp_TV), estimator)
    return estimator.model()


def dense(record: Any, vocabulary: int) -> np.ndarray:
    """The distribution that a record stands for."""
    tail = record.tail
    table = None
    if tail is not None:
        rows = torch.from_numpy(tail.row_V.astype(np.int64))
        table = TailTable(torch.from_numpy(tail.log_weights), rows)
    logp_NC, ids_NK = torch.from_numpy(record.logp_NC).double(), torch.from_numpy(record.ids_NK)
    found: np.ndarray = spread_rest(logp_NC, ids_NK.long(), vocabulary, table).numpy()
    return found


def timed(work: Any, repeats: int) -> tuple[float, Any]:
    """Least seconds of a core in some runs, and the result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def told(settings: dict[str, Any]) -> str:
    """``min_p 5.0e-05, root bits 7 prior``."""
    codec = settings["codec"]
    rules = [f"{name} {value}" for name, value in settings.items() if name != "codec"]
    packed = [codec["name"], *(f"{n} {v}" for n, v in codec.items() if n != "name")]
    return f"{', '.join(rules)}; {', '.join(packed)}"


def measure_peers(test: list[np.ndarray]) -> Iterator[Point]:
    """Every peer's representation."""
    for name, represent in representations(test[0].shape[1]).items():
        found = [represent(logp_TV) for logp_TV in test]
        lost = [divergence(x, y) for x, (_, y) in zip(test, found, strict=True)]
        yield point(name.split()[0], name, sum(size for size, _ in found), lost)


def cheapest(points: list[Point], level: float, *, ours: bool) -> Point | None:
    """The smallest that loses no more than ``level`` on average."""
    fit = [p for p in points if (p.who == OURS) == ours and p.mean <= level]
    return min(fit, key=lambda p: p.size, default=None)


def rows_of(points: list[Point], timed_again: Point, given: Posteriors) -> list[Row]:
    """The figures to write: bytes at equal loss, and speed at the level of 1e-3."""
    rows = []
    for level in LEVELS:
        own, peer = (cheapest(points, level, ours=ours) for ours in (True, False))
        if own is not None and peer is not None:
            name = "codec.bytes_at_equal_kl" if level == GOAL else f"codec.bytes_at_kl_{level:.0e}"
            beside = f"{peer.name} ({peer.size:.4g} B), {given.name}"
            ratio = peer.size / own.size
            rows.append(Row(name + given.suffix, own.size, "B/frame", beside, ratio))
    assert timed_again.encode is not None
    assert timed_again.decode is not None
    speeds = (("encode", timed_again.encode, 1e3), ("decode", timed_again.decode, 5e3))
    for what, speed, goal in speeds:
        asked = f"the goal of {goal:,.0f}, {given.name}"
        rows.append(Row(f"codec.{what}{given.suffix}", speed, "× real time", asked, speed / goal))
    return rows


def show(points: list[Point], everything: bool) -> None:
    """The cheapest of either side at each level, then the peers and our frontier."""
    for level in LEVELS:
        print(f"\n  at most {level:.0e} nats a frame")
        for ours in (True, False):
            best = cheapest(points, level, ours=ours)
            print("   ", "none" if best is None else line(best))
    chosen = [p for p in points if everything or p.who != OURS or on_frontier(p, points)]
    print("\n  B/frame      KL mean   KL 99 %  × real time, encode and decode")
    for p in sorted(chosen, key=lambda p: p.size):
        print("  " + line(p))


def on_frontier(candidate: Point, points: list[Point]) -> bool:
    """No other setting of ours is smaller and loses less."""
    own = [p for p in points if p.who == OURS and p is not candidate]
    return not any(p.size <= candidate.size and p.mean <= candidate.mean for p in own)


def line(p: Point) -> str:
    """A point in a row of the table."""
    speed = "" if p.encode is None else f"{p.encode:8,.0f} {p.decode:8,.0f}"
    name = p.name if p.who != OURS else f"{OURS}: {p.name}"
    return f"{p.size:8.2f}  {p.mean:10.2e}{p.high:10.1e}  {speed:18}  {name}"


def parse_args() -> argparse.Namespace:
    """What is measured."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, nargs="*", default=[500, 1000, 4000], help="simulated")
    parser.add_argument("--utterances", type=int, default=8, help="measured, of 15 seconds")
    parser.add_argument("--train", type=int, default=40, help="utterances for models of the rest")
    there = [path for path in REAL if path.is_file()]
    parser.add_argument("--posteriors", type=Path, nargs="*", default=there, help="npz of teachers")
    parser.add_argument("--all", action="store_true", help="show every setting of ours")
    return parser.parse_args()


def sets(args: argparse.Namespace) -> Iterator[Posteriors]:
    """Real ones first; rows of the first set have no suffix."""
    for path in args.posteriors:
        logp = load(path)
        half, name = len(logp) // 2, f"{path.parent.name}.{path.stem}"
        suffix = "" if path == args.posteriors[0] else f".{name}"
        yield Posteriors(f"real ({name})", suffix, logp[: max(1, half)], logp[half:])
    if not args.posteriors:
        print("no posteriors of a real teacher (make bench-teacher): simulated ones only")
    for vocabulary in args.vocab:
        fewer = max(1, vocabulary // 1000)
        train = simulate(vocabulary, max(2, args.train // fewer), seed=1)
        test = simulate(vocabulary, max(2, args.utterances // fewer), seed=2)
        plain = not args.posteriors and vocabulary == 500
        yield Posteriors("simulated", "" if plain else f".v{vocabulary}", train, test)


def measure(given: Posteriors, *, everything: bool) -> list[Row]:
    """Print the table of a set; its rows."""
    train, test = given.train, given.test
    points = [measure_ours(settings, train, test) for settings in our_settings()]
    points += measure_peers(test)
    print(
        f"\n{given.name}: V = {test[0].shape[1]}, {sum(map(len, test)):,} frames, entropy "
        f"{entropy(test):.3f} nats"
    )
    show(points, everything)
    best = cheapest(points, GOAL, ours=True)
    assert best is not None, "all classes as fp16 lose less than this"
    assert best.settings is not None
    again = measure_ours(best.settings, train, test, REPEATS)
    print(f"\n  at {GOAL:.0e}, best of {REPEATS} runs: {line(again)}", flush=True)
    return rows_of(points, again, given)


def main() -> None:
    """Print a table a set; write rows where asked."""
    args = parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, one core, {time.strftime('%Y-%m-%d')}")
    rows = [row for given in sets(args) for row in measure(given, everything=args.all)]
    print()
    publish(rows, args.json)


if __name__ == "__main__":
    main()
