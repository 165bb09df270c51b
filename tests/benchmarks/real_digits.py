"""Train a small teacher that is right about speech it never heard, over 500 pieces.

    python tests/benchmarks/real_digits.py              into build/digits, half an hour
    python tests/benchmarks/real_posteriors.py --room build/digits
    python tests/benchmarks/bench_real_band.py --room build/digits

So little speech as ``real_teacher`` has teaches a transducer its sentences by heart, and nothing
about other people's. Strings of digits, composed of recordings of four people, can be learnt: the
held-out strings are of other recordings by the same people. Ten words do not make 500 pieces, so
pieces cross words here, and most are two or three digits; few labels a second come of that. The
encoder is that of the teacher of ``make demo-real``; CTC first, then the transducer, as there.

    build/digits/corpus/  {train,dev,test}.jsonl  subwords{,-start,-ctc}/  transducer/student/
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from real_teacher import HEARING, VOCABULARY, train_ctc, train_joint

from kdcache.corpus import read_manifest, train_sentencepiece, write_manifest
from kdcache.demo.corpora import make_corpus
from kdcache.demo.recipe import load_recipe

OUT = Path("build/digits")
HOURS = {"train": 4.0, "test": 0.25}


def make_manifests(out: Path) -> None:
    """Compose the strings; one half of the held-out ones is ``dev``, the other ``test``."""
    hours = tuple(f"real.{split}={hours}" for split, hours in HOURS.items())
    make_corpus(load_recipe("real", hours), out / "corpus", lambda *_: None)
    held_out = list(read_manifest(out / "corpus" / "test.jsonl"))
    write_manifest(out / "train.jsonl", read_manifest(out / "corpus" / "train.jsonl"))
    write_manifest(out / "dev.jsonl", held_out[::2])
    write_manifest(out / "test.jsonl", held_out[1::2])


def parse_args() -> argparse.Namespace:
    """How long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where it is made")
    parser.add_argument("--encoder", type=Path, default=HEARING, help="student to take it from")
    parser.add_argument("--rate", type=float, default=1e-3, help="greatest learning rate")
    parser.add_argument("--minutes", type=float, default=60, help="of the training by CTC, at most")
    parser.add_argument("--ctc-steps", type=int, default=3000, help="of the CTC head")
    parser.add_argument("--joint-steps", type=int, default=800, help="of the transducer")
    parser.add_argument("--augment", action="store_true", help="mask what it hears while it learns")
    return parser.parse_args()


def main() -> None:
    """Make whatever is not there yet."""
    args = parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "subwords").is_dir():
        make_manifests(args.out)
        texts = [utterance.text for utterance in read_manifest(args.out / "train.jsonl")]
        tokenizer = train_sentencepiece(texts, VOCABULARY, across_words=True)
        tokenizer.save(args.out / "subwords")
    hears = train_ctc(args, args.encoder, "subwords", args.ctc_steps)
    print(f"the teacher is at {train_joint(args, hears)}")


if __name__ == "__main__":
    main()
