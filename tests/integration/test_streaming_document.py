"""Every program of docs/streaming.md runs as it stands, and all of them learn the same.

They train one student in one order. So a run of plain PyTorch is what those of Lightning, of
Hugging Face and on Lhotse's cuts must end in, weight by weight; and a run that stops and goes on
must end in what an undisturbed one ends in.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from kdcache.corpus import load_tokenizer
from kdcache.extract import ExtractConfig
from kdcache.store import open_cache
from kdcache.stream import stream_cache
from kdcache.testing.small_teachers import save_small_transducer
from tests.unit.extract.extract_fakes import extract_here

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).parents[2] / "docs" / "streaming.md"
EPSILON = 1.0
CHANGES = {
    "hidden=96, layers=4": (
        "hidden=16, layers=1, heads=2, feed_forward=2, joint=16, subsampling_channels=4"
    ),
    "batch_seconds=400": "batch_seconds=3",
    "CLIP_NORM = 1e-3, 1.0": "CLIP_NORM = 1e-3, 1e6",
    "weight_decay=0.0)": f"weight_decay=0.0, eps={EPSILON})",
}
"""What makes the student and its batches small enough for a test, and its steps depend on how
large the gradients are, not only on where they point."""

STEPS, STOPS = 5, (2, 3)
"""Of an epoch's two steps the second is partial; stops are at its end and amid the next one."""

CLOSE = {"rtol": 1e-4, "atol": 1e-6}
"""Sums in another order differ in their last digits."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the page's programs, from which they can be imported."""
    folder = tmp_path_factory.mktemp("programs")
    text = DOCUMENT.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name is not None, block
        for large, small in CHANGES.items():
            block = block.replace(large, small)
        (folder / name[1]).write_text(block)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if (folder / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture(scope="module")
def data(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache of the tones by a random teacher, and their manifest."""
    folder = tmp_path_factory.mktemp("cache")
    teacher = save_small_transducer(folder / "teacher", load_tokenizer(tones / "tokenizer"))
    config = ExtractConfig.model_validate(
        {
            "teacher": {"path": teacher, "device": "cpu"},
            "corpus": tones / "train.jsonl",
            "cache": {"path": str(folder / "cache")},
            "targets": [{"kind": "lattice"}, {"kind": "hidden"}],
        }
    )
    extract_here(config)
    return folder / "cache", tones / "train.jsonl"


@pytest.fixture(scope="module")
def undisturbed(
    programs: Path, data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """The weights that any run of ``STEPS`` steps must end in."""
    out = tmp_path_factory.mktemp("plain")
    return weights(importlib.import_module("train_plain").train(*data, out, steps=STEPS))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def heard_by(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A list that fills with the ids of the batches that a program's students hear."""
    heard: list[tuple[str, ...]] = []
    forward = module.Distilled.forward

    def listen(self: Any, batch: Any) -> torch.Tensor:
        heard.append(batch.ids)
        result: torch.Tensor = forward(self, batch)
        return result

    monkeypatch.setattr(module.Distilled, "forward", listen)
    return heard


def bare(data: tuple[Path, Path], steps: int) -> list[tuple[str, ...]]:
    """What the bare stream gives in so many steps, with its last ones of an epoch filled up."""
    stream = stream_cache(data[0], batch_seconds=3, micro_batches_per_step=4, seed=7)
    heard: list[tuple[str, ...]] = []
    while len(heard) < 4 * steps:
        for step in stream.steps():
            ids = [batch.ids for batch in step.batches]
            heard += ids + [ids[0]] * (4 - len(ids))
    return heard[: 4 * steps]


# Plain PyTorch


def test_the_page_says_what_the_order_is(
    programs: Path, data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("train_plain")
    heard = heard_by(module, monkeypatch)
    module.train(*data, tmp_path, steps=STEPS)
    assert heard == bare(data, STEPS)
    epoch = stream_cache(data[0], batch_seconds=3, micro_batches_per_step=4, seed=7).plan(0)
    assert len(epoch) == STOPS[0]
    assert len(epoch.steps[-1]) < 4, "no stand-in is among them"


def test_it_learns(
    programs: Path, data: tuple[Path, Path], undisturbed: dict[str, torch.Tensor]
) -> None:
    distilled = importlib.import_module("distilled")
    batch = next(iter(distilled.open_stream(*data, rank=0, world_size=1)))
    model = distilled.Distilled(open_cache(data[0]))
    before = model(batch).mean().item()
    model.load_state_dict(undisturbed, strict=False)
    assert model(batch).mean().item() < before


def test_plain_pytorch_goes_on(
    programs: Path,
    data: tuple[Path, Path],
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    module = importlib.import_module("train_plain")
    module.train(*data, tmp_path, steps=3)
    assert_equal(weights(module.train(*data, tmp_path, steps=STEPS)), undisturbed)


# Lightning

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}


def lightning_run(data: tuple[Path, Path], out: Path, steps: int) -> Any:
    module = importlib.import_module("train_lightning")
    return module.train(*data, out, steps, save_every=1, accelerator="cpu", **QUIET)


@pytest.mark.filterwarnings("ignore")
def test_lightning_ends_where_plain_pytorch_does(
    programs: Path,
    data: tuple[Path, Path],
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    heard = heard_by(importlib.import_module("distilled"), monkeypatch)
    model = lightning_run(data, tmp_path, STEPS)
    assert heard == bare(data, STEPS)
    assert_close(weights(model), undisturbed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop", STOPS)
def test_lightning_goes_on(
    programs: Path,
    data: tuple[Path, Path],
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    lightning_run(data, tmp_path, stop)
    heard = heard_by(importlib.import_module("distilled"), monkeypatch)
    assert_close(weights(lightning_run(data, tmp_path, STEPS)), undisturbed)
    assert heard == bare(data, STEPS)[4 * stop :]


# Hugging Face


def transformers_run(data: tuple[Path, Path], out: Path, steps: int) -> Any:
    module = importlib.import_module("train_transformers")
    settings: dict[str, Any] = {
        "save_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    settings["adam_epsilon"] = EPSILON
    return module.train(*data, out, steps, logging_strategy="no", **settings)


@pytest.mark.filterwarnings("ignore")
def test_transformers_ends_where_plain_pytorch_does(
    programs: Path,
    data: tuple[Path, Path],
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    heard = heard_by(importlib.import_module("distilled"), monkeypatch)
    model = transformers_run(data, tmp_path, STEPS)
    assert heard == bare(data, STEPS)
    assert_close(weights(model), undisturbed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop", STOPS)
def test_transformers_goes_on(
    programs: Path,
    data: tuple[Path, Path],
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    transformers_run(data, tmp_path, stop)
    assert (tmp_path / f"checkpoint-{stop}" / "stream.json").exists()
    heard = heard_by(importlib.import_module("distilled"), monkeypatch)
    assert_close(weights(transformers_run(data, tmp_path, STEPS)), undisturbed)
    assert heard == bare(data, STEPS)[4 * stop :]


# Lhotse


@pytest.mark.filterwarnings("ignore")
def test_lhotse_ends_where_plain_pytorch_does(
    programs: Path, data: tuple[Path, Path], undisturbed: dict[str, torch.Tensor]
) -> None:
    pytest.importorskip("lhotse", reason="lhotse is not installed: 'kdcache[lhotse]'")
    module = importlib.import_module("train_lhotse")
    assert_close(weights(module.train(*data, STEPS)), undisturbed)


@pytest.mark.filterwarnings("ignore")
def test_lhotse_goes_on(programs: Path, data: tuple[Path, Path]) -> None:
    pytest.importorskip("lhotse", reason="lhotse is not installed: 'kdcache[lhotse]'")
    module = importlib.import_module("train_lhotse")
    whole = module.examples(*data)
    first = [next(whole) for _ in range(4 * STEPS)]
    for stop in (4, 8, 12):
        rest = module.examples(*data, position=first[stop - 1][2]["position"])
        for given, batch, item in first[stop:]:
            again, batch_again, item_again = next(rest)
            assert batch_again.ids == batch.ids
            assert torch.equal(again["inputs"], given["inputs"])
            assert item_again["position"] == item["position"]
        rest.close()
    whole.close()


@pytest.mark.parametrize("world_size", [1, 2])
def test_lhotse_s_sampler_gives_every_utterance_once(
    programs: Path, data: tuple[Path, Path], world_size: int
) -> None:
    pytest.importorskip("lhotse", reason="lhotse is not installed: 'kdcache[lhotse]'")
    module = importlib.import_module("sample_lhotse")
    ids = [
        name
        for rank in range(world_size)
        for batch in module.loader(*data, rank, world_size, max_duration=5.0)
        for name in batch.ids
    ]
    assert sorted(ids) == sorted(open_cache(data[0]).catalogue.column("id").to_pylist())


# Two workers

TWO_WORKERS = {
    "train_plain": {},
    "train_lightning": {"devices": 2, "accelerator": "cpu", "strategy": "ddp", **QUIET},
    "train_transformers": {
        "world_size": 2,
        "use_cpu": True,
        "adam_epsilon": EPSILON,
        "report_to": [],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("program", TWO_WORKERS)
def test_two_workers_end_where_one_does(
    programs: Path,
    data: tuple[Path, Path],
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
    program: str,
) -> None:
    arguments = [*map(str, data), str(tmp_path)]
    (tmp_path / "run.py").write_text(
        f"import os, torch, {program}\n"
        f"model = {program}.train(*{arguments}, steps={STEPS}, **{TWO_WORKERS[program]})\n"
        f"torch.save(model.state_dict(), {str(tmp_path)!r} + '/' + os.environ['RANK'] + '.pt')\n"
    )
    path = os.pathsep.join([str(programs), os.environ["PYTHONPATH"]])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(tmp_path / "run.py")],
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close({name: found[name] for name in undisturbed}, undisturbed)
