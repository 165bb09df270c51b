"""The pages and the configuration of ``cluster/``: that what they name is there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from kdcache.config import load_config
from kdcache.extract import ExtractConfig
from kdcache.train import TrainSettings
from tests.command_lines import check_command, commands_in

if TYPE_CHECKING:
    from pathlib import Path

PAGES = ["README.md", "kubernetes/README.md", "slurm/README.md", "clouds/README.md"]
FILES = {
    "kubernetes": ["rayjob.yaml", "raycluster.yaml"],
    "slurm": ["kdcache.sbatch"],
    "clouds": ["aws.yaml", "machines.yaml"],
}
SUBMIT = re.compile(r"ray job submit (.*?)(?=\n\S|\Z)", re.DOTALL)


def text(repository: Path, name: str) -> str:
    return (repository / "cluster" / name).read_text(encoding="utf-8")


def test_the_example_configuration_is_one(repository: Path) -> None:
    config = load_config(repository / "cluster" / "extract.yaml", ExtractConfig)
    assert config.teacher.path.is_absolute()
    assert config.actors == "auto"


def test_the_example_student_learns_from_that_cache(repository: Path) -> None:
    teacher = load_config(repository / "cluster" / "extract.yaml", ExtractConfig)
    student = load_config(repository / "cluster" / "train.yaml", TrainSettings)
    assert str(student.data.cache) == teacher.cache.path
    assert str(student.data.corpus) == str(teacher.corpus)
    assert student.out.is_absolute()
    assert student.micro_batches_per_step % student.workers == 0


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_named_exist(repository: Path, name: str) -> None:
    for words in commands_in(text(repository, name)):
        check_command(words)


def test_every_way_shows_how_to_run_it(repository: Path) -> None:
    shown = [name for name in PAGES if commands_in(text(repository, name))]
    assert shown == ["README.md", "kubernetes/README.md", "clouds/README.md"]
    for command in ("extract", "train"):
        shown_too = f"kdcache.sbatch {command} cluster/{command}.yaml"
        assert shown_too in text(repository, "slurm/README.md")


@pytest.mark.parametrize("folder", FILES)
def test_every_folder_is_its_page_and_its_files(repository: Path, folder: str) -> None:
    there = {path.name for path in (repository / "cluster" / folder).iterdir()}
    assert there == {"README.md", *FILES[folder]}
    assert "## What to edit" in text(repository, f"{folder}/README.md")


@pytest.mark.parametrize("folder", FILES)
def test_a_page_names_what_its_files_hold(repository: Path, folder: str) -> None:
    """Each `code` in the first column of a table of edits is found in the files, unless the page
    says that it is absent."""
    page = text(repository, f"{folder}/README.md")
    files = "".join(text(repository, f"{folder}/{name}") for name in FILES[folder])
    tables = re.findall(r"^## What to edit.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    cells = re.findall(r"^\| (.*?) \|", "".join(tables), re.MULTILINE)
    named = [
        word for cell in cells if "(absent)" not in cell for word in re.findall("`(.+?)`", cell)
    ]
    assert named
    missing = [word for word in named if word not in files]
    assert missing == [word for word in missing if "." in word]
    for word in missing:  # `docker.image`: the key below another
        assert word.rpartition(".")[2] in files


@pytest.mark.parametrize("name", PAGES[:2] + PAGES[3:])
def test_a_submitted_folder_holds_the_configuration(repository: Path, name: str) -> None:
    submitted = SUBMIT.findall(text(repository, name).replace("\\\n", " "))
    commands = [line for line in submitted if "--working-dir" in line]
    assert commands
    for command in commands:
        folder = re.search(r"--working-dir (\S+)", command)
        config = re.search(r"kdcache (?:extract|train) (\S+)", command)
        assert folder is not None
        assert config is not None
        assert (repository / folder[1] / config[1]).is_file()
