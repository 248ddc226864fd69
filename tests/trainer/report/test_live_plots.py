"""Curves of a page in one file, in a real browser: from disk, without a network, with and without scripts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trainer.report.html_template import html_document
from trainer.report.live_plots import live, pictures
from trainer.report.plots import Curve, Plot

CHROMIUM = Path("/usr/bin/chromium")
X = [1000.0 * step for step in range(1, 41)]
LOSS = [6 - 0.1 * step + 0.3 * (step % 5) for step in range(40)]
PLOTS = [
    Plot(
        "Loss against tokens",
        "tokens",
        "nats",
        [Curve("mean </script>", X, LOSS), Curve("held out", X[::10], LOSS[::10], marker="o")],
    ),
    Plot("Where the time went", "seconds", "", bars={"data": 1.0, "other": 2.0}),
    Plot(
        "Batch size",
        "tokens",
        "sequences",
        [Curve("", X, [math.nan, *[8.0] * 20, *[16.0] * 19], stairs=True)],
        from_zero=True,
    ),
]


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    on_page = live(PLOTS)
    file = tmp_path / "report.html"
    file.write_text(html_document("A run", "under", {"Curves": pictures(PLOTS)}, on_page.html, on_page.hashes))
    return file


@contextmanager
def shown(file: Path, **context: Any) -> Iterator[Any]:
    if not CHROMIUM.is_file():
        pytest.skip("needs Debian's chromium")
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    asked: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1100, "height": 900}, offline=True, **context).new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        yield page
        browser.close()
    assert wrong == []
    assert [one for one in asked if not one.startswith((file.as_uri(), "data:", "blob:"))] == []


def test_curves_take_the_place_of_their_pictures_and_say_their_numbers(page_file: Path) -> None:
    with shown(page_file, color_scheme="dark", bypass_csp=False) as page:
        page.locator(".chart canvas").nth(1).wait_for()
        assert page.locator("img:visible").count() == 1  # the bars
        assert page.locator(".legend li").all_inner_texts() == ["mean </script>", "held out"]
        box = page.locator(".chart").first.bounding_box()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
        said = page.locator(".readout").first
        page.locator(".readout", has_text=re.compile("nats")).first.wait_for()
        loss, tokens = re.search(r": nats ([\d.]+) at ([\d.]+) k tokens", said.inner_text()).groups()  # type: ignore[union-attr]
        assert float(loss) == pytest.approx(LOSS[int(float(tokens)) - 1], abs=1e-4)
        page.locator(".chart").nth(1).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("End")
        assert "sequences 16 at 40 k tokens" in page.locator(".readout").nth(1).inner_text()


def test_without_scripts_and_on_paper_there_are_the_pictures(page_file: Path) -> None:
    with shown(page_file, java_script_enabled=False) as page:
        assert page.locator("img:visible").count() == 3 and page.locator(".chart").count() == 0
        assert [one.get_attribute("alt") for one in page.locator("img").all()] == [plot.title for plot in PLOTS]


def test_axe_finds_nothing_serious(page_file: Path) -> None:
    import axe_core_python

    script = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
    with shown(page_file, bypass_csp=True) as page:
        page.locator(".chart canvas").nth(1).wait_for()
        page.evaluate(script)
        found = page.evaluate("() => axe.run()")["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


def test_a_page_of_bars_alone_has_no_script() -> None:
    assert live([PLOTS[1]]).html == "" and live([]).hashes == ()


def test_equal_plots_give_equal_pages() -> None:
    assert live(PLOTS) == live(PLOTS)
    assert "</script>" not in re.search(r'id="plots">(.*?)</script>', live(PLOTS).html)[1]  # type: ignore[index]
