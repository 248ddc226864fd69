"""report.html, fit.html, compare.html and a publication's page in a real browser: for eyes, for keys, on a phone, in
the dark, without scripts; what a chart tells is what the files say."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import trained

from tests.in_browser import chromium, draw_all, findings, said_by_keys, shown
from trainer.cli.main import main
from trainer.publish import publish
from trainer.report import write_report

WIDE = """() => [...document.querySelectorAll("html, section, table, figure")]
  .filter((one) => one.scrollWidth > innerWidth).map((one) => one.outerHTML.slice(0, 80))"""
PAGES = {"report": "report.html", "compare": "compare.html", "fit": "fit.html", "publish": "index.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one run, and a run whose losses are another scale."""
    folder = tmp_path_factory.mktemp("pages") / "runs"
    for seed in range(2):
        trained(folder, 32, 8, 3.0 + 0.1 * seed, name=f"bpe{seed}", seed=seed)
    trained(folder, 32, 8, 2.0, name="unigram", tokenizer={"name": "unigram"})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of runs on Chinchilla's law, each under a name of its own."""
    file = tmp_path_factory.mktemp("table") / "runs.csv"
    random = np.random.default_rng(0)
    with open(file, "w") as out:
        writer = csv.writer(out)
        writer.writerow(["name", "parameters", "tokens", "loss"])
        for n in (1e8, 3e8, 1e9, 3e9):
            for d in (2e9, 1e10, 5e10):
                loss = (1.69 + 406.4 / n**0.34 + 410.7 / d**0.28) * np.exp(0.003 * random.normal())
                writer.writerow([f"run-{n:.0e}-{d:.0e}", n, d, loss])
    return file


@pytest.fixture(scope="module")
def pages(root: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("out")
    run = next(root.glob("*/bpe0"))
    one = {"items": 10, "chance": 0.25, "shortened": 0, "kinds": {}, "measure": "log-likelihood", "task": "copy"}
    scores = [{"acc": {"value": 0.3 + 0.1 * shots, "standard_error": 0.05}} for shots in range(3)]
    tasks = [one | {"shots": shots, "values": values} for shots, values in enumerate(scores)]
    (run / "evaluation.json").write_text(json.dumps({"step": 20, "tasks": tasks}))
    write_report(run)
    assert main(["compare", str(root), f"out={out / 'compare'}"]) == 0
    assert main(["fit", str(runs), "form=chinchilla", "replicates=20", "budget=1e22", f"out={out / 'fit'}"]) == 0
    publish(root, out / "publish", {"name": "Ours", "authors": ["A. One"]})
    folders = {"report": run, "compare": out / "compare", "fit": out / "fit", "publish": out / "publish"}
    return {name: folders[name] / file for name, file in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_and_a_phone_scrolls_one_way(browser: Any, pages: dict[str, Path], name: str) -> None:
    with shown(browser, pages[name], bypass_csp=True) as page:
        for width in (390, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            draw_all(page)
            assert page.evaluate(WIDE) == []
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                assert findings(page) == [], (width, scheme)


def test_the_measured_column_is_seen_on_a_phone(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["report"], viewport={"width": 390, "height": 800}) as page:
        row = page.locator("section:has(h2:text-is('Price tag')) tr", has_text="training tokens").first
        cells = row.locator("td[data-of=measured], td[data-of=planned]")
        assert [one.inner_text() for one in cells.all()] == ["10,240 tokens"] * 2
        assert all(
            box["x"] >= 0 and box["x"] + box["width"] <= 390 for one in cells.all() if (box := one.bounding_box())
        )


def test_every_run_of_a_law_is_told_as_the_table_has_it(browser: Any, pages: dict[str, Path], runs: Path) -> None:
    table = {row["name"]: row for row in csv.DictReader(runs.read_text().splitlines())}
    with shown(browser, pages["fit"]) as page:
        assert draw_all(page) == 6
        said = said_by_keys(page, "Loss against training FLOPs")
        points = [re.fullmatch(r"(\S+) \(\S+\): held-out loss, \S+ (\S+) at (\S+) training FLOPs", one) for one in said]
        told = {one[1]: (float(one[2]), float(one[3])) for one in points if one}
        assert told == {
            name: (
                pytest.approx(float(row["loss"]), rel=1e-5),
                pytest.approx(6 * float(row["parameters"]) * float(row["tokens"]), rel=1e-4),
            )
            for name, row in table.items()
        }
        law = [re.search(r"by the law: \D+ ([\d.]+) \(([\d.]+) to ([\d.]+)\) at", one) for one in said]
        ends = [tuple(map(float, one.groups())) for one in law if one]
        assert len(ends) == 60 and all(low <= value <= high for value, low, high in ends)

        chart = page.locator("figure", has_text="Loss against training FLOPs").first
        box, seen = chart.locator(".chart").bounding_box(), set()
        for across, down in ((0.15, 0.1), (0.35, 0.3), (0.5, 0.5), (0.3, 0.6)):
            chart.locator(".readout").evaluate("(one) => { one.textContent = '' }")
            page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
            chart.locator(".readout", has_text="at").wait_for()
            said_there = chart.locator(".tip").inner_text()
            seen.add(said_there)
            assert said_there in said
        assert len(seen) > 1


def test_every_scale_of_losses_is_a_chart_of_what_the_runs_wrote(
    browser: Any, pages: dict[str, Path], root: Path
) -> None:
    title = "Loss against tokens (dots: held out)"
    with shown(browser, pages["compare"]) as page:
        assert draw_all(page) == 3
        titles = page.locator("figcaption").all_inner_texts()
        assert titles == [title, title, "Held-out bits per byte against tokens"]
        page.locator("figure").nth(1).evaluate(
            "(one) => { one.querySelector('figcaption').textContent = 'the second' }"
        )
        said = said_by_keys(page, title) + said_by_keys(page, "the second")
        held_out = {
            (file.parent.name if "bpe" in file.parent.name else "", record["tokens"]): record["loss"]
            for file in root.glob("*/*/metrics.jsonl")
            for record in map(json.loads, file.read_text().splitlines())
            if record["kind"] == "evaluation"
        }
        pattern = r"tokenizer\.name=\w+(?:, (\w+))?, held out: nats per target (\S+) at (\S+) k tokens"
        points = [found for one in said if (found := re.fullmatch(pattern, one))]
        assert {(one[1] or "", float(one[3]) * 1000): float(one[2]) for one in points} == held_out


def test_fingers_point_and_zoom(browser: Any, pages: dict[str, Path]) -> None:
    phone = {"has_touch": True, "is_mobile": True, "viewport": {"width": 390, "height": 800}}
    with shown(browser, pages["compare"], **phone) as page:
        draw_all(page)
        first = page.locator("figure").first
        first.scroll_into_view_if_needed()
        first.locator(".chart").tap()
        first.locator(".readout", has_text="nats per target").wait_for()
        view = (
            "() => { const { start, end } = document.querySelector('.chart').chart.figure.x_range; return end - start }"
        )
        whole = page.evaluate(view)
        first.get_by_label("zoom in").tap()
        assert page.evaluate(view) == pytest.approx(whole / 2)
        first.get_by_label("show all").tap()
        assert page.evaluate(view) == pytest.approx(whole)


def test_bars_and_intervals_are_told_as_the_run_has_them(browser: Any, pages: dict[str, Path]) -> None:
    with shown(browser, pages["report"]) as page:
        draw_all(page)
        assert "waiting for data: 1 seconds (8 %)" in said_by_keys(page, "Where the time went")
        assert said_by_keys(page, "In-context curve") == [
            "copy: acc 0.4 (0.35 to 0.45) at 1 examples in the context",
            "copy: acc 0.3 (0.25 to 0.35) at 0 examples in the context",
            "copy: acc 0.5 (0.45 to 0.55) at 2 examples in the context",
        ]
        assert all(
            chart.get_attribute("aria-label").startswith(chart.locator("xpath=../figcaption").inner_text())
            for chart in page.locator(".chart").all()
        )


@pytest.mark.parametrize("name", ["report", "compare", "fit"])
def test_without_scripts_there_are_pictures_that_suit_the_dark(browser: Any, pages: dict[str, Path], name: str) -> None:
    from matplotlib.image import imread

    with shown(browser, pages[name], java_script_enabled=False, color_scheme="dark") as page:
        pictures = page.locator("figure img")
        assert pictures.count() >= 3 and page.locator(".chart").count() == 0
        alts = [one.get_attribute("alt") for one in pictures.all()]
        assert all(re.search(r"\d", alt) and len(alt) > 40 for alt in alts), alts
        brightness = imread(io.BytesIO(pictures.first.screenshot()))[..., :3].mean(axis=-1)
        assert np.median(brightness) < 0.2 and np.quantile(brightness, 0.999) > 0.6  # light ink on dark paper


def test_charts_follow_the_scheme_as_it_changes(browser: Any, pages: dict[str, Path]) -> None:
    from matplotlib.image import imread

    def brightness() -> float:
        return float(np.median(imread(io.BytesIO(page.locator(".chart").first.screenshot()))[..., :3]))

    with shown(browser, pages["fit"], color_scheme="light") as page:
        draw_all(page)
        assert brightness() > 0.9
        page.emulate_media(color_scheme="dark")
        for _ in range(200):
            if brightness() < 0.2:
                break
            page.wait_for_timeout(50)
        assert brightness() < 0.2
