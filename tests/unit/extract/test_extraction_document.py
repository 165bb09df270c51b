"""Every example of docs/extraction.md is valid as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kdcache.extract import ExtractConfig
from tests.command_lines import check_command, commands_in

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "extraction.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.S)
LEAST = {"teacher": {"path": "t"}, "corpus": "c", "cache": {"path": "k"}, "targets": "lattice"}


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_the_settings_are_settings(number):
    shown = yaml.safe_load(CONFIGS[number])
    settings = ExtractConfig.model_validate({**LEAST, **shown})
    assert set(shown) <= settings.model_fields_set


def test_defaults_are_what_it_says():
    shown = yaml.safe_load(next(text for text in CONFIGS if "batch_seconds" in text))
    fresh = ExtractConfig.model_validate(LEAST)
    assert {name: getattr(fresh, name) for name in shown} == shown


def test_the_commands_are_commands():
    commands = commands_in(DOCUMENT)
    assert len(commands) >= 3
    for words in commands:
        check_command(words)


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)", DOCUMENT):
        assert (ROOT / "docs" / link).exists(), link
