"""Reports: what they tell, and pages that hold nothing but what was put there."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from kdcache.errors import ConfigError
from kdcache.inspect.fields import Fields
from kdcache.inspect.histogram import BINS, histogram
from kdcache.inspect.page import Shown, page
from kdcache.inspect.report import ROWS, read_report

if TYPE_CHECKING:
    from kdcache.inspect.report import Report
    from kdcache.store import Cache

VOID = {"meta", "link", "input", "img"}
HOSTILE = """"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"""


class Page(HTMLParser):
    """Tags with their attributes, and that all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(report: Report, **more: bytes) -> dict[str, Shown]:
    return {key: Shown(f"says {key}", **more) for key in (*report.worst, *report.best)}


def test_both_ends_by_divergence(sampled: Cache) -> None:
    report = read_report(sampled, top=3)
    assert report.order.name == "lattice.kl_mean"
    assert report.worst == ("u07", "u02", "u09")
    assert report.best == ("u00", "u05", "u10")
    assert [row["id"] for row in report.utterances][:2] == ["u07", "u02"]
    assert report.utterances[-1]["lattice.kl_mean"] is None  # u03 comes last
    assert len(report.utterances) == 12
    assert report.summary.utterances == 12


def test_by_another_field(sampled: Cache) -> None:
    report = read_report(sampled, "duration", 1)
    assert (report.worst, report.best) == (("u11",), ("u00",))
    with pytest.raises(ConfigError, match="a field of numbers"):
        read_report(sampled, "text")
    with pytest.raises(ConfigError, match="no field 'durtion'"):
        read_report(sampled, "durtion")


def test_no_utterance_is_both_worst_and_best(sampled: Cache) -> None:
    report = read_report(sampled, top=100)
    assert len(report.worst) == 12
    assert report.best == ()


def test_a_large_table_has_both_ends(sampled: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcache.inspect.report.ROWS", 4)
    assert ROWS > 4
    report = read_report(sampled, "duration", 1)
    assert [row["id"] for row in report.utterances] == ["u11", "u10", "u01", "u00"]
    text = page(report, shown(report))
    assert "Of 12, the 4 with most and least duration." in text


def test_a_histogram_counts_all(sampled: Cache) -> None:
    fields = Fields(sampled)
    found = histogram(fields, fields.find("duration"))
    assert found is not None
    assert (sum(found.counts), found.least, found.most, found.missing) == (12, 1.0, 12.0, 0)
    assert len(found.counts) == BINS
    assert found.counts[0] == found.counts[-1] == 1
    kl = histogram(fields, fields.find("kl"))
    assert kl is not None
    assert (sum(kl.counts), kl.missing) == (11, 1)


def test_a_histogram_of_equal_values(sampled: Cache) -> None:
    fields = Fields(sampled)
    found = histogram(fields, fields.find("encoder_logits.kl_full_mean"))
    assert found is not None
    assert found.counts == (11, *[0] * (BINS - 1))


def test_a_page_is_whole_and_holds_what_it_should(sampled: Cache) -> None:
    report = read_report(sampled, top=2)
    text = page(report, shown(report, picture=b"PNG", audio=b"FLAC"))
    found = Page(text)
    tags = [tag for tag, _ in found.tags]
    assert tags.count("img") == tags.count("audio") == 4
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert images[0]["src"] == "data:image/png;base64,UE5H"
    assert all(image["alt"] for image in images)
    assert tags.count("svg") == len(report.histograms) == 3
    assert "duration (s)" in found.text
    assert "lattice.kl_mean (nats)" in found.text
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = {a["href"] for tag, a in found.tags if tag == "a"}
    assert inner <= {f"#{name}" for name in ids}
    assert page(report, shown(report, picture=b"PNG", audio=b"FLAC")) == text


def test_a_page_asks_for_nothing_else(sampled: Cache) -> None:
    report = read_report(sampled, top=2)
    found = Page(page(report, shown(report, picture=b"PNG", audio=b"FLAC")))
    for _, attributes in found.tags:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    policy = next(a["content"] or "" for _, a in found.tags if "http-equiv" in a)
    assert "default-src 'none'" in policy
    script = re.search(r"<script>(.*)</script>", page(report, shown(report)), re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_what_comes_from_the_cache_is_text(sampled: Cache) -> None:
    clean = read_report(sampled, top=1)
    rows = tuple({**row, "id": HOSTILE, "text": HOSTILE} for row in clean.utterances)
    summary = replace(clean.summary, path=HOSTILE, teacher=HOSTILE)
    report = replace(clean, utterances=rows, summary=summary, worst=(HOSTILE,), best=())
    said = Shown(HOSTILE, b"PNG", b"FLAC", HOSTILE)
    found = Page(page(report, {HOSTILE: said}))
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert [tag for tag, _ in found.tags].count("img") == 1
    assert not [a for _, a in found.tags if "onerror" in a]
    assert found.text.count(HOSTILE) >= 2 * len(rows) + 3


def test_values_that_are_no_finite_number(sampled: Cache) -> None:
    clean = read_report(sampled, top=0)
    values = (float("inf"), float("nan"), None, 0.5)
    rows = tuple(
        {**row, "duration": value}
        for row, value in zip(clean.utterances, values, strict=False)
    )  # fmt: skip
    text = page(replace(clean, utterances=rows), {})
    assert text.count('data-value="Infinity">inf<') == 1
    assert text.count('data-value="0.5">0.5<') == 1
    assert "nan" not in re.findall(r'data-value="([^"]*)"', text)
