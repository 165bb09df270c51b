"""The files around the code: that they are what they say, and name what exists."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from tests.command_lines import check_command, commands_in

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


# Commands that pages and scripts name


@pytest.mark.parametrize("name", ["README.md", "docs/training.md"])
def test_the_commands_of_a_page_exist(repository: Path, name: str) -> None:
    found = commands_in((repository / name).read_text(encoding="utf-8"))
    assert found
    for words in found:
        check_command(words)


def test_a_wrong_command_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        check_command(["kdcache", "extract", "x.yaml", "--no-such-option"])
    with pytest.raises(click.UsageError):
        check_command(["kdcache", "extrct", "x.yaml"])
