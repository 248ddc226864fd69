"""Pages in Debian's Chromium, and what they must never do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Any]:
    if not CHROMIUM.is_file():
        pytest.skip("needs Debian's chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def shown(browser: Any, place: str | Path, **context: Any) -> Iterator[Any]:
    """The page at an address, or without a network that in a file; at the end nothing may have gone wrong in it, and
    nothing been asked for elsewhere."""
    offline = isinstance(place, Path)
    address = place.as_uri() if isinstance(place, Path) else place
    wrong: list[str] = []
    asked: list[str] = []
    made = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, "offline": offline, **context})
    page = made.new_page()
    page.set_default_timeout(60_000)
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    made.close()
    assert wrong == []
    assert [one for one in asked if not one.startswith((address, "data:", "blob:"))] == []


def draw_all(page: Any) -> int:
    """Look at every picture, so that all are charts; returns how many there are."""
    figures = page.locator("figure")
    for number in range(count := figures.count()):
        figures.nth(number).scroll_into_view_if_needed()
        figures.nth(number).locator(".chart canvas").first.wait_for()
    return count


def findings(page: Any) -> list[str]:
    """What axe-core calls serious or critical."""
    import axe_core_python

    if not page.evaluate("() => 'axe' in window"):
        page.evaluate((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("() => axe.run({ resultTypes: ['violations'] })")["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in SERIOUS]


def said_by_keys(page: Any, title: str) -> list[str]:
    """What the chart of this title tells of each of its points, along every line from its first point to its last."""
    chart = page.locator(f"figure:has(figcaption:text-is('{title}'))")
    chart.scroll_into_view_if_needed()
    chart.locator(".chart canvas").first.wait_for()
    chart.locator(".chart").focus()
    readout = chart.locator(".readout")
    said: list[str] = []

    def press(key: str) -> bool:
        before = readout.inner_text()
        page.keyboard.press(key)
        said.append(readout.inner_text())
        return said[-1] != before

    press("ArrowRight")
    for _ in range(len(page.evaluate(LINES, title))):
        press("ArrowUp")
    for _ in page.evaluate(LINES, title):
        press("Home")
        while press("ArrowRight"):
            pass
        press("ArrowDown")
    return list(dict.fromkeys(said))


LINES = """(title) => {
  const figures = [...document.querySelectorAll("figure")];
  const figure = figures.find((one) => one.querySelector("figcaption")?.textContent === title);
  return figure.querySelector(".chart").chart.lines.map((one) => one.name);
}"""
