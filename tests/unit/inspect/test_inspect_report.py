"""Reports: what they tell, and pages that hold nothing but what was put there."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdcache.errors import ConfigError
from kdcache.inspect.fields import Fields
from kdcache.inspect.histogram import BINS, histogram
from kdcache.inspect.page import Shown, page
from kdcache.inspect.report import ENDS, ROWS, SAMPLED, evenly, read_report
from kdcache.store import create_or_open, open_cache
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

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
    ids = (*report.worst, *report.best, *report.sample)
    return {key: Shown(f"says {key}", **more) for key in ids}


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


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A hundred utterances more than a table holds, durations in another order than ids."""
    path = tmp_path_factory.mktemp("large") / "cache"
    writer = create_or_open(path, sample_spec(), "webdataset", TOKENIZER_FILES)
    item = sample_packed(writer.spec, "u")
    count = ROWS + 100
    items = [
        replace(
            item,
            utterance=replace(item.utterance, id=f"u{number:04d}"),
            duration=float(number * 7 % count),
            fidelity={},
        )
        for number in range(count)
    ]
    writer.commit("a" * 64, items, [], "test")
    return open_cache(path)


def test_a_large_table_has_both_ends_and_a_sample_and_says_so(large: Cache) -> None:
    report = read_report(large, "duration", 1, 4)
    count = len(large)
    durations = [int(row["duration"]) for row in report.utterances]
    assert durations == sorted(durations, reverse=True)
    assert durations[:ENDS] == list(range(count - 1, count - 1 - ENDS, -1))
    assert durations[-ENDS:] == list(range(ENDS - 1, -1, -1))
    assert 2 * ENDS < len(durations) <= ROWS
    assert len(report.utterances) == len({row["id"] for row in report.utterances})
    between = {int(row["id"][1:]) for row in report.utterances[ENDS:-ENDS]}
    assert between <= set(evenly(count, SAMPLED))
    assert sum(report.histograms[0].counts) == count  # distributions are over all
    text = page(report, shown(report))
    assert f"{len(durations):,} of {count:,}: the 400 with most and the 400 with least" in text
    assert "Distributions, of all 1,100 utterances" in text


def test_the_sample_is_of_the_others(sampled: Cache) -> None:
    report = read_report(sampled, top=2, sample=6)
    assert report.sample == tuple(
        f"u{row:02d}" for row in (1, 3, 5, 7, 9, 11)
        if f"u{row:02d}" not in (*report.worst, *report.best)
    )  # fmt: skip
    found = Page(page(report, shown(report)))
    assert [text for text in found.text if text.startswith("Sample: ")]
    assert read_report(sampled, top=100, sample=3).sample == ()


@given(count=st.integers(0, 300), wanted=st.integers(0, 40))
def test_a_sample_is_spread_evenly(count: int, wanted: int) -> None:
    found = evenly(count, wanted)
    assert len(found) == len(set(found)) == min(count, wanted)
    assert found == sorted(found)
    assert all(0 <= place < count for place in found)
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert not gaps or max(gaps) - min(gaps) <= 1


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
