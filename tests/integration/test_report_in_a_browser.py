"""A report in a real browser: it loads without a word, is searched and sorted, light and dark.

Debian's chromium and chromium-driver, driven by selenium; skipped where they are not to be had.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from kdcache.cli.main import main
from kdcache.corpus.audio import encode_flac, to_int16
from kdcache.store import create_or_open
from kdcache.testing.records import random_lattice
from kdcache.testing.samples import TOKENIZER_FILES, sample_packed, sample_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.chrome.service import Service

    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        started = webdriver.Chrome(options=options, service=Service(driver))
    except WebDriverException as error:
        pytest.skip(f"the browser does not start here: {error.msg}")
    yield started
    started.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of five utterances with audio, one of them hostile."""
    folder: Path = tmp_path_factory.mktemp("report")
    spec = sample_spec(audio="flac")
    writer = create_or_open(folder / "cache", spec, "zarr", TOKENIZER_FILES)
    tone = np.frombuffer(
        encode_flac(to_int16(0.5 * np.sin(np.arange(8_000) / 5)), 16_000), np.uint8
    )
    items = []
    for number in range(5):
        item = sample_packed(spec, f"u{number}")
        lattice = random_lattice(np.random.default_rng(number), 12, 5, 2)
        arrays = spec.codec("lattice").encode(lattice)
        columns = {
            **{k: v for k, v in item.columns.items() if not k.startswith("lattice.")},
            **{f"lattice.{name}": array for name, array in arrays.items()},
            "audio": tone,
        }
        text = HOSTILE if number == 3 else f"words of {number}"
        items.append(
            replace(
                item,
                columns=columns,
                utterance=replace(item.utterance, text=text),
                duration=0.5,
                frames=12,
                tokens=[1, 2, 3, 4, 5],
                fidelity={"lattice.kl_mean": [3.0, 20.0, 1.0, 100.0, 0.5][number]},
            )
        )
    writer.commit("a" * 64, items, [], "test")
    out = folder / "report.html"
    result = CliRunner().invoke(
        main, ["report", str(folder / "cache"), "-o", str(out), "--top", "2"]
    )
    assert result.exit_code == 0, result.output
    return out.as_uri()


@pytest.fixture
def opened(browser: Any, address: str) -> Any:
    browser.get(address)
    return browser


def rows(browser: Any) -> list[str]:
    """Ids of the rows that are seen, from top to bottom."""
    found = browser.find_elements("css selector", "#utterances tbody tr")
    return [row.find_element("css selector", "td").text for row in found if row.is_displayed()]


def sort_by(browser: Any, name: str) -> str:
    for button in browser.find_elements("css selector", "#utterances th button"):
        if button.text.startswith(name):
            browser.execute_script("arguments[0].click()", button)
            return str(button.find_element("xpath", "..").get_attribute("aria-sort"))
    raise AssertionError(name)


def test_it_loads_without_a_word(opened: Any) -> None:
    assert opened.get_log("browser") == []
    assert opened.title.endswith(": report")  # nothing in the cache has changed it
    assert not opened.find_elements("css selector", "img[src='x']")
    wide = "return Array.from(document.images).map(one => one.naturalWidth)"
    assert opened.execute_script(wide) == [1080] * 5  # two of each end, and the one that is left
    assert rows(opened) == ["u3", "u1", "u0", "u2", "u4"]


def test_the_columns_sort(opened: Any) -> None:
    assert sort_by(opened, "lattice.kl_mean") == "ascending"
    assert rows(opened) == ["u4", "u2", "u0", "u1", "u3"]  # by number, not as text
    assert sort_by(opened, "lattice.kl_mean") == "descending"
    assert rows(opened) == ["u3", "u1", "u0", "u2", "u4"]
    assert sort_by(opened, "id") == "ascending"
    assert rows(opened) == ["u0", "u1", "u2", "u3", "u4"]
    assert len(opened.find_elements("css selector", "th[aria-sort]")) == 1


def test_the_search_finds(opened: Any) -> None:
    search = opened.find_element("id", "search")
    search.send_keys("WORDS u1")
    assert rows(opened) == ["u1"]
    assert opened.find_element("id", "count").text == "1 of 5 shown"
    sort_by(opened, "id")
    assert rows(opened) == ["u1"]
    search.clear()
    search.send_keys("<img src=x")
    assert rows(opened) == ["u3"]
    search.send_keys(" nowhere")
    assert rows(opened) == []


def test_the_audio_can_be_played(opened: Any) -> None:
    seconds = opened.execute_async_script(
        "const done = arguments[0], audio = document.querySelector('audio');"
        "audio.onerror = () => done('error'); audio.onloadeddata = () => done(audio.duration);"
        "audio.preload = 'auto'; audio.load();"
    )
    assert seconds == pytest.approx(0.5)


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_is_light_or_dark_and_a_screenshot_is_taken(
    opened: Any, scheme: str, dark: bool, tmp_path: Path
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    import matplotlib.image

    assert opened.save_screenshot(str(tmp_path / "page.png"))
    pixels = matplotlib.image.imread(tmp_path / "page.png")[..., :3]
    assert (np.median(pixels) < 0.5) == dark
    assert pixels.std() > 0.01  # there is something to be seen
