"""The files around the code: that they are what they say, and name what exists."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from kdcache.cli.lazy import loaded
from kdcache.cli.main import main
from kdcache.config import load_config
from kdcache.extract import ExtractConfig

if TYPE_CHECKING:
    from pathlib import Path

APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of https://www.apache.org/licenses/LICENSE-2.0.txt."""
TARGETS = ["demo", "demo-real", "test", "lint", "format", "test-slow", "bench", "docs", "clean"]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def pages(repository: Path) -> list[Path]:
    folders = ("docs", "cluster", "pipelines")
    inside = [page for folder in folders for page in (repository / folder).rglob("*.md")]
    return sorted([*repository.glob("*.md"), *inside])


def check_command(words: list[str]) -> None:
    """Parse ``kdcache …`` as the command line would, without running it."""
    assert words[0] == "kdcache"
    command: click.Command = main
    context = click.Context(main, info_name="kdcache", **main.context_settings)
    rest = words[1:]
    while isinstance(command, click.Group):
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = loaded(found)
        context = click.Context(command, context, command.name)
    command.make_context(command.name, list(rest), context.parent)


def commands_in(text: str) -> list[list[str]]:
    """Every ``kdcache …`` that a shell would run, with continued lines joined.

    Of a page in Markdown, those of its shell blocks.
    """
    if text.startswith("# "):
        text = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = text.replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|\s|-- )(kdcache [a-z].*)", line) for line in lines)
    return [
        [word for word in shlex.split(match[1], comments=True) if word != "&"]
        for match in found
        if match and not match.string.lstrip().startswith("#")
    ]


def run_make(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell: the make that runs these tests leaves its flags behind."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}
    }
    return subprocess.run(
        ["make", *words],
        cwd=repository,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


# Licence, make, continuous integration


def test_the_licence_is_the_licence(repository: Path) -> None:
    assert hashlib.sha256((repository / "LICENSE").read_bytes()).hexdigest() == APACHE_2


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target(repository: Path, target: str) -> None:
    run = run_make(repository, "--dry-run", "--always-make", target)
    assert run.returncode == 0, run.stderr


def test_make_demo_installs_and_runs_what_it_should(repository: Path) -> None:
    run = run_make(repository, "--dry-run", "--always-make", "demo")
    lines = [line.strip() for line in run.stdout.splitlines()]
    steps = ["-m venv .venv", "--editable '.[demo]'", ".venv/bin/kdcache demo --out build/demo"]
    places = [next(i for i, line in enumerate(lines) if step in line) for step in steps]
    assert places == sorted(places)


@pytest.mark.parametrize("target", ["demo", "demo-real"])
def test_the_demo_s_command_line_is_right(repository: Path, target: str) -> None:
    run = run_make(repository, "--dry-run", target)
    command = run.stdout.splitlines()[-1].replace(".venv/bin/", "")
    assert f"build/{target}.json" in command
    check_command(shlex.split(command))


def test_make_refuses_an_old_python(repository: Path, tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1"\nexit 1\n')
    old.chmod(0o755)
    run = run_make(repository, f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", "demo")
    assert run.returncode == 2
    assert f"kdcache needs Python 3.11 or newer; {old} is Python 3.9.1." in run.stderr
    assert not (tmp_path / "venv").exists()


def test_continuous_integration_runs_make_test(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "\nmake test" in text
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


# Documentation


def test_every_relative_link_leads_somewhere(repository: Path) -> None:
    broken = [
        f"{page.relative_to(repository)}: {link}"
        for page in pages(repository)
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []


def test_decisions_are_numbered_without_gaps(repository: Path) -> None:
    names = sorted(page.name for page in (repository / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(name[:3]) for name in names] == list(range(len(names)))


def test_the_rooms_are_all_in_the_guide(repository: Path) -> None:
    guide = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (repository / "kdcache").glob("*/__init__.py")]
    assert [room for room in rooms if f"`{room}/`" not in guide] == []


def test_the_guide_names_files_that_exist(repository: Path) -> None:
    guide = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:kdcache|tests|docs)/[\w/.-]+\.\w+)`", guide)
    assert named
    assert [name for name in named if not (repository / name).exists()] == []


# Cluster


def test_the_example_configuration_is_one(repository: Path) -> None:
    config = load_config(repository / "cluster" / "extract.yaml", ExtractConfig)
    assert config.teacher.path.is_absolute()
    assert config.actors == "auto"


def test_the_kuberay_job_has_the_shape_of_one(repository: Path) -> None:
    job: dict[str, Any] = yaml.safe_load((repository / "cluster" / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1
    for pod in pods:
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {
            mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]
        }
        assert set(mounts) == volumes
        assert mounts["shared"] == "/shared"


def test_the_kuberay_job_runs_a_command_that_exists(repository: Path) -> None:
    job = yaml.safe_load((repository / "cluster" / "rayjob.yaml").read_text())
    check_command(shlex.split(job["spec"]["entrypoint"]))


def test_its_override_is_a_setting(repository: Path) -> None:
    config = load_config(
        repository / "cluster" / "extract.yaml", ExtractConfig, ["ray.address=auto"]
    )
    assert config.ray.address == "auto"


def test_the_slurm_script_is_bash(repository: Path) -> None:
    script = repository / "cluster" / "extract.sbatch"
    run = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("name", ["README.md", "extract.sbatch"])
def test_cluster_commands_exist(repository: Path, name: str) -> None:
    found = commands_in((repository / "cluster" / name).read_text(encoding="utf-8"))
    assert found
    for words in found:
        check_command(words)


def test_a_wrong_command_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        check_command(["kdcache", "extract", "x.yaml", "--no-such-option"])
    with pytest.raises(click.UsageError):
        check_command(["kdcache", "extrct", "x.yaml"])
