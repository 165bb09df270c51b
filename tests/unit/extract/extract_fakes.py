"""A teacher of a few torch lines that misbehaves on demand, and things to feed it.

It is a real transducer (frames, prediction states, a joint network) of which the numbers
depend on every sample and label. What it does wrong is triggered by the number of samples of
an utterance, as ``control.json`` in its directory says:

    die, die_once   SIGKILL to its own process, always or until a marker file exists
    exit, segfault  the process ends at once, or reads where it may not
    fail            RuntimeError for the whole batch
    full            the disk is full from now on, unless a file ``room`` is in the directory
    nan             NaN among the logits
    room            padded samples of a batch that fit in memory; more is asked of torch in vain
    sleep           seconds that each batch takes
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile as sf
import torch

from kdcache.corpus.manifest import write_manifest
from kdcache.corpus.tokenizer import load_tokenizer, train_sentencepiece
from kdcache.errors import TeacherError
from kdcache.extract import ExtractConfig, prepare
from kdcache.extract.targets import bind_targets
from kdcache.extract.worker import UnitWorker
from kdcache.store import Cache, local, open_cache
from kdcache.teacher import load_teacher
from kdcache.teacher.protocol import LatticeLogits, TeacherOutput
from kdcache.types import AudioRef, TeacherKind, TeacherSpec, Utterance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcache.corpus.tokenizer import Tokenizer

RATE = 8000
FRAME = 400
WIDTH = 6
WORDS = ("one", "two", "three", "four", "five")
ADAPTER = "tests.unit.extract.extract_fakes:FakeTeacher"


class FullDisk:
    """The module ``os`` on a machine whose disk is full."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


class FakeTeacher:
    """See the module's docstring."""

    def __init__(self, directory: str | Path, device: str = "cpu", dtype: str = "float32") -> None:
        self.directory = Path(directory)
        control = self.directory / "control.json"
        if not control.is_file():
            raise TeacherError(f"{directory} holds no fake teacher; save one there.")
        self.control: dict[str, Any] = json.loads(control.read_text())
        self.calls: list[int] = []
        self._tokenizer = load_tokenizer(self.directory)
        self._kind = TeacherKind(self.control.get("kind", "transducer"))
        vocab = self._tokenizer.vocab_size + 1
        generator = torch.Generator().manual_seed(3)
        self._encode = torch.randn(FRAME, WIDTH, generator=generator)
        self._embed = torch.randn(vocab, WIDTH, generator=generator)
        self._out = 3 * torch.randn(WIDTH, vocab, generator=generator)

    @property
    def spec(self) -> TeacherSpec:
        vocab = self._tokenizer.vocab_size + 1
        weights = hashlib.sha256(self._out.numpy().tobytes()).hexdigest()
        lattice = ("lattice",) if self._kind is TeacherKind.TRANSDUCER else ()
        return TeacherSpec(
            name="fake",
            kind=self._kind,
            vocab_size=vocab,
            blank_id=vocab - 1,
            sample_rate=RATE,
            frame_shift=FRAME / RATE,
            hidden_size=WIDTH,
            targets=("encoder_logits", "hidden", *lattice),
            tokenizer=self._tokenizer.fingerprint,
            fingerprint=weights,
        )

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def forward(
        self, audio: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
    ) -> list[TeacherOutput]:
        self.calls.append(len(audio))
        if len(audio) * max(map(len, audio)) > self.control.get("room", math.inf):
            torch.empty(2**60, dtype=torch.uint8)
        time.sleep(self.control.get("sleep", 0.0))
        for samples in audio:
            self._misbehave(len(samples))
        return [self._answer(*pair) for pair in zip(audio, tokens, strict=True)]

    def _misbehave(self, length: int) -> None:
        marker = self.directory / "died"
        if length in self.control.get("die_once", ()) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if length in self.control.get("die", ()):
            os.kill(os.getpid(), signal.SIGKILL)
        if length in self.control.get("exit", ()):
            os._exit(3)
        if length in self.control.get("segfault", ()):
            ctypes.string_at(0)
        if length in self.control.get("full", ()) and not (self.directory / "room").exists():
            local.os = FullDisk()
        if length in self.control.get("fail", ()):
            raise RuntimeError(f"cannot bear\n{length} samples")

    def _answer(self, samples: np.ndarray, tokens: Sequence[int]) -> TeacherOutput:
        frames = len(samples) // FRAME
        framed = torch.from_numpy(samples[: frames * FRAME].reshape(frames, FRAME))
        hidden_TD = torch.tanh(framed @ self._encode)
        if len(samples) in self.control.get("nan", ()):
            hidden_TD[0] = float("nan")
        start = self.spec.vocab_size - 1
        lattice = LatticeLogits(
            encoder_TJ=hidden_TD,
            decoder_UJ=self._embed[[start, *tokens]],
            joint=lambda e, d: torch.tanh(e + d) @ self._out,
            blank=start,
            predictor=FakePredictor(self._embed, start),
        )
        return TeacherOutput(
            frames=frames,
            tokens=tuple(tokens),
            hidden_TD=hidden_TD,
            frame_logits_TV=hidden_TD @ self._out,
            lattice=lattice if self._kind is TeacherKind.TRANSDUCER else None,
        )


class PatientTeacher(FakeTeacher):
    """Answers nobody before as many utterances were spelt as ``patience`` in its control says."""

    spelt = 0

    @property
    def tokenizer(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str) -> list[int]:
        self.spelt += 1
        return self._tokenizer.encode(text)

    def forward(
        self, audio: Sequence[np.ndarray], tokens: Sequence[Sequence[int]]
    ) -> list[TeacherOutput]:
        rehearsal = [len(samples) for samples in audio] == [RATE]
        end = time.monotonic() + 60
        while not rehearsal and self.spelt < self.control["patience"]:
            if time.monotonic() > end:
                raise RuntimeError(f"only {self.spelt} were spelt")
            time.sleep(0.01)
        return super().forward(audio, tokens)


class FakePredictor:
    """The prediction network of :class:`FakeTeacher`, which knows the last label alone."""

    def __init__(self, embed: torch.Tensor, start: int) -> None:
        self._embed, self._start = embed, start

    def start(self) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        return self._embed[[self._start]], ()

    def step(
        self, labels_N: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        assert state == ()
        return self._embed[labels_N], ()


def extract_here(config: ExtractConfig) -> Cache:
    """The whole corpus in this process and without Ray: what any run must end in."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads_per_actor)
    try:
        ready = prepare(config)
        settings = config.teacher
        teacher = load_teacher(settings.path, "cpu", settings.dtype, settings.adapter)
        targets = bind_targets(ready.spec.targets, teacher.spec)
        worker = UnitWorker(teacher, targets, keep_audio=config.cache.audio == "flac")
        for unit in ready.plan.units:
            result = worker.run(unit)
            ready.writer.commit(unit.key, result.packed, result.failed, "here")
    finally:
        torch.set_num_threads(threads)
    return open_cache(config.cache.path)


def save_fake_teacher(directory: Path, **control: Any) -> Path:
    """A directory that :class:`FakeTeacher` loads."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = len({*"".join(WORDS)}) + 2
    train_sentencepiece([" ".join(WORDS)], letters, "char").save(directory)
    (directory / "control.json").write_text(json.dumps(control))
    return directory


def save_corpus(
    directory: Path, lengths: Sequence[int], rate: int = RATE
) -> tuple[Path, list[Utterance]]:
    """A manifest of noise, an utterance for each number of samples; the ids are u00, u01…"""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    utterances = []
    for index, length in enumerate(lengths):
        path = directory / f"u{index:02d}.wav"
        sf.write(path, rng.normal(0, 0.1, length).astype(np.float32), rate, subtype="FLOAT")
        text = " ".join(rng.choice(WORDS, 2))
        ref = AudioRef(str(path), 0.0, length / rate)
        utterances.append(Utterance(f"u{index:02d}", ref, text))
    manifest = directory / "manifest.jsonl"
    write_manifest(manifest, utterances)
    return manifest, utterances
