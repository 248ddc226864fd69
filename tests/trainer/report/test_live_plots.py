"""Curves of a page in one file, in a real browser: from disk, without a network, with and without scripts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.in_browser import chromium, findings, shown
from tests.trainer.publish.test_page import contrast
from trainer.report.html_template import html_document
from trainer.report.live_plots import live, pictures
from trainer.report.plots import Curve, Plot, shares

X = [1000.0 * step for step in range(1, 41)]
LOSS = [6 - 0.1 * step + 0.3 * (step % 5) for step in range(40)]
PLOTS = [
    Plot(
        "Loss against tokens",
        "tokens",
        "nats",
        [Curve("mean </script>", X, LOSS), Curve("held out", X[::10], LOSS[::10], marker="o")],
    ),
    Plot("Where the time went", "seconds", "", bars=shares({"data": 1.0, "other": 2.0})),
    Plot(
        "Batch size",
        "tokens",
        "sequences",
        [Curve("", X, [math.nan, *[8.0] * 20, *[16.0] * 19], stairs=True)],
        from_zero=True,
    ),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    on_page = live(PLOTS)
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html_document("A run", "under", {"Curves": pictures(PLOTS)}, on_page.html, on_page.hashes))
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_curves_take_the_place_of_their_pictures_and_say_their_numbers(browser: Any, page_file: Path) -> None:
    with shown(browser, page_file, color_scheme="dark", bypass_csp=False) as page:
        page.locator(".chart canvas").nth(2).wait_for()
        assert page.locator("img:visible").count() == 0
        assert page.locator(".legend li").all_inner_texts() == ["mean </script>", "held out"]
        box = page.locator(".chart").first.bounding_box()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
        said = page.locator(".readout").first
        page.locator(".readout", has_text=re.compile("nats")).first.wait_for()
        loss, tokens = re.search(r": nats ([\d.]+) at ([\d.]+) k tokens", said.inner_text()).groups()  # type: ignore[union-attr]
        assert float(loss) == pytest.approx(LOSS[int(float(tokens)) - 1], abs=1e-4)
        page.locator(".chart").nth(2).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("End")
        assert "sequences 16 at 40 k tokens" in page.locator(".readout").nth(2).inner_text()


def test_without_scripts_and_on_paper_there_are_the_pictures(browser: Any, page_file: Path) -> None:
    with shown(browser, page_file, java_script_enabled=False) as page:
        assert page.locator("img:visible").count() == 3 and page.locator(".chart").count() == 0
        alts = [one.get_attribute("alt") for one in page.locator("img").all()]
        assert alts[0].startswith(
            "Loss against tokens. nats against tokens: mean </script> from 6 to 3.3; held out from 6 "
        )
        assert alts[1] == "Where the time went. Bars, seconds: data 1 (33 %); other 2 (67 %)."


def test_axe_finds_nothing_serious(browser: Any, page_file: Path) -> None:
    with shown(browser, page_file, bypass_csp=True) as page:
        page.locator(".chart canvas").nth(2).wait_for()
        assert findings(page) == []


def test_colours_stand_out_from_the_page_in_both_schemes(browser: Any, page_file: Path) -> None:
    """Of what a line is told by; the pale one lies behind its mean."""
    with shown(browser, page_file) as page:
        for scheme, paper, least in (("light", "#ffffff", 3.0), ("dark", "#15181c", 4.5)):
            page.emulate_media(color_scheme=scheme)
            page.reload()
            page.locator(".legend li").nth(1).wait_for()
            own = page.locator(".legend li").evaluate_all(
                "(all) => all.map((one) => one.style.getPropertyValue('--own'))"
            )
            assert len(own) == 2 and all(contrast(colour, paper) >= least for colour in own)


def test_a_page_without_plots_has_no_script() -> None:
    assert live([]).html == "" and live([]).hashes == () and pictures([]) == ""


def test_equal_plots_give_equal_pages() -> None:
    assert live(PLOTS) == live(PLOTS)
    assert "</script>" not in re.search(r'id="plots">(.*?)</script>', live(PLOTS).html)[1]  # type: ignore[index]
