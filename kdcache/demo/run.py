"""The demo's stages, one after the other; what is already there is not made again.

    corpus → tokenizer → teacher → cache → student without → student from the cache → scores

Every stage is what a command of kdcache does. The demo writes the YAML that the command
takes beside its result, so that any stage can be repeated and changed by hand.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import yaml

from kdcache.corpus import read_manifest, train_sentencepiece, write_manifest
from kdcache.demo.corpora import make_corpus
from kdcache.demo.table import CacheRow, DemoResult, ModelRow
from kdcache.errors import KdcacheError
from kdcache.extract import ExtractConfig, run_extract
from kdcache.inspect.summary import summarise
from kdcache.score import score_student
from kdcache.store import open_cache
from kdcache.student import load_student
from kdcache.train import DataSettings, LossSettings, TrainSettings, note_of, run_training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kdcache.config import Settings
    from kdcache.demo.recipe import ModelRecipe, Recipe
    from kdcache.pipeline.show import Show
    from kdcache.types import Utterance


class Demo:
    """One run of the demo in one folder.

    Args:
        recipe: its sizes.
        out: its folder.
        layout: of the cache, zarr or webdataset.
        show: opens a progress display, given label, total and unit.
    """

    def __init__(self, recipe: Recipe, out: Path, layout: str, show: Show) -> None:
        self._recipe, self._out, self._layout, self._show = recipe, out, layout, show
        self._stages: dict[str, float] = {}

    def run(self) -> DemoResult:
        """All stages; the figures are measured, never remembered."""
        began = time.monotonic()
        self._stage("corpus", self._corpus)
        # Each stage starts a Ray of its own, which ends with it: no process that held the
        # teacher is there when a student begins.
        self._stage("teacher", self._teacher)
        self._stage("extract", self._extract)
        self._stage("student, no teacher", lambda: self._student("plain"))
        self._stage("student, from cache", lambda: self._student("cached"))
        teacher, plain, cached = (self._score(name) for name in ("teacher", "plain", "cached"))
        seconds = round(time.monotonic() - began, 1)
        return DemoResult(teacher, plain, cached, self._cache_row(), seconds, self._stages)

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        began = time.monotonic()
        work()
        self._stages[name] = round(time.monotonic() - began, 1)

    def _corpus(self) -> None:
        corpus = self._out / "corpus"
        with self._show("Corpus", None, "utterances") as shown:
            make_corpus(self._recipe, corpus, lambda done, total: shown.update(done, total))
        texts = [u.text for u in read_manifest(corpus / "train.jsonl")]
        tokenizer = train_sentencepiece(texts, self._recipe.vocabulary, self._recipe.model_type)
        tokenizer.save(self._out / "tokenizer")
        hours = self._recipe.student.hours
        utterances = read_manifest(corpus / "train.jsonl")
        chosen = utterances if hours is None else _first_hours(utterances, hours)
        write_manifest(self._out / "student.jsonl", chosen)

    def _teacher(self) -> None:
        data = DataSettings(
            corpus=self._out / "corpus" / "train.jsonl",
            tokenizer=self._out / "tokenizer",
            keep_in_memory=True,
        )
        self._train("teacher", self._recipe.teacher, data, self._recipe.teacher.loss)

    def _extract(self) -> None:
        config = ExtractConfig.model_validate(
            {
                "teacher": {"path": self._out / "teacher" / "student", "device": "cpu"},
                "corpus": self._out / "student.jsonl",
                "cache": {"path": str(self._out / "cache"), "layout": self._layout},
                "targets": list(self._recipe.targets),
                "unit_utterances": 100,
                "actors": os.cpu_count() or 1,
            }
        )
        self._keep_yaml("extract", config)
        with self._show("Extracting", None, "utterances") as shown:
            report = run_extract(config, lambda s: shown.update(s.done, s.total, s.note))
        if not report.complete:
            raise KdcacheError(
                f"The cache {report.cache} lacks {report.absent} utterances; run the demo again."
            )

    def _student(self, name: str) -> None:
        recipe = self._recipe.student
        data = DataSettings(
            cache=str(self._out / "cache"),
            corpus=self._out / "student.jsonl",
            keep_in_memory=True,
        )
        plain = dict.fromkeys(("lattice_kl", "encoder_kl"), 0.0)
        loss = recipe.loss if name == "cached" else recipe.loss.model_copy(update=plain)
        self._train(name, recipe, data, loss)

    def _train(
        self, name: str, recipe: ModelRecipe, data: DataSettings, loss: LossSettings
    ) -> None:
        settings = TrainSettings(
            out=self._out / name,
            data=data,
            student=recipe.student,
            loss=loss,
            optim=recipe.optim,
            batch_seconds=recipe.batch_seconds,
            seed=self._recipe.seed,
            cpus_per_worker=os.cpu_count() or 1,
        )
        self._keep_yaml(name, settings)
        with self._show(f"Training {name}", recipe.optim.steps, "steps") as shown:
            run_training(settings, lambda now: shown.update(now["step"], note=note_of(now)))

    def _score(self, name: str) -> ModelRow:
        folder = self._out / name / "student"
        test = read_manifest(self._out / "corpus" / "test.jsonl")
        with self._show(f"Scoring {name}", len(test), "utterances") as shown:
            report = score_student(
                load_student(folder),
                test,
                weights=folder / "model.safetensors",
                progress=lambda done, total: shown.update(done, total),
            )
        rate = report.wer
        return ModelRow(
            round(rate.wer, 6),
            round(rate.low, 6),
            round(rate.high, 6),
            report.parameters,
            report.bytes,
            round(report.real_time_factor, 6),
        )

    def _cache_row(self) -> CacheRow:
        cache = open_cache(self._out / "cache")
        summary = summarise(cache)
        lattice = next(target for target in summary.targets if target.name == "lattice")
        return CacheRow(
            bytes_per_hour=round(summary.bytes_per_hour or 0.0, 1),
            mean_kl=lattice.fidelity["kl_mean"],
            hours=round(summary.hours, 4),
            layout=summary.layout,
            utterances=summary.utterances,
            content_digest=cache.content_digest(),
        )

    def _keep_yaml(self, name: str, settings: Settings) -> None:
        """What `kdcache train` or `kdcache extract` takes to do this stage again."""
        values: dict[str, Any] = settings.model_dump(mode="json", exclude_defaults=True)
        text = yaml.safe_dump(values, sort_keys=False)
        (self._out / f"{name}.yaml").write_text(text, encoding="utf-8")


def run_demo(recipe: Recipe, out: Path, layout: str, show: Show) -> DemoResult:
    """Run the demo in ``out``, going on with what an earlier run left there."""
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    return Demo(recipe, out, layout, show).run()


def _first_hours(utterances: list[Utterance], hours: float) -> list[Utterance]:
    """The first utterances whose durations add up to ``hours``; at least one."""
    chosen, seconds = [], 0.0
    for utterance in utterances:
        if seconds >= hours * 3600:
            break
        chosen.append(utterance)
        seconds += utterance.duration
    return chosen
