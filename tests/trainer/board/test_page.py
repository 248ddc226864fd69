"""The page in a real browser: what it shows is what the files say, for eyes, for keys and without scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.in_browser import chromium, findings, shown
from tests.trainer.board.conftest import Serving, Written, append_steps, serving_board
from trainer.board.board import opened

LOSSES = [6.0 - 0.05 * step + 0.3 * (step % 7) for step in range(60)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def drawn(page: Any, text: str) -> None:
    page.locator("#drawn", has_text=re.compile(text)).wait_for()
    page.locator("#drawn[data-left='0']").wait_for()


def until(page: Any, true: Callable[[], bool]) -> None:
    """Wait for what the page does a moment after it was asked to; at the end the test's own line judges."""
    for _ in range(400):
        if true():
            return
        page.wait_for_timeout(50)


def extent(page: Any) -> list[float]:
    """Of the view, in the axis' own unit."""
    return page.evaluate(
        "() => { const { start, end } = document.querySelector('#chart').chart.figure.x_range; return [start, end] }"
    )


@pytest.fixture
def root(written: Written, tmp_path: Path) -> Path:
    written("exp/gpt", LOSSES, held={20: 5.5, 40: 4.5}, events=[("start", 0, "start"), ("spike", 30, "far up")])
    written("exp/bert", [one + 1 for one in LOSSES], model="bert-mini", lr=0.01)
    return tmp_path


def test_a_pointed_at_value_is_the_files(browser: Any, root: Path, serving: Serving) -> None:
    with serving(root) as address, shown(browser, address) as page:
        drawn(page, "2 runs, 122 points")
        page.locator("#none").click()
        page.locator("label:has(#held) input").uncheck()
        page.locator("[aria-label='draw exp/gpt']").check()
        drawn(page, "1 run, 60 points")
        box = page.locator("#chart").bounding_box()
        seen = set()
        for share in (0.2, 0.5, 0.8):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
            page.locator("#readout", has_text="exp/gpt: loss").wait_for()
            tip = page.locator(".tip").first
            until(page, lambda tip=tip: not any(f" {one} k " in tip.inner_text() for one in seen))  # type: ignore[misc]
            said = tip.inner_text()
            loss, tokens = re.fullmatch(r"exp/gpt: loss ([\d.]+) at ([\d.]+) k tokens", said).groups()
            assert float(loss) == pytest.approx(LOSSES[int(float(tokens)) - 1], abs=1e-4)
            seen.add(tokens)
        assert len(seen) == 3


def test_keys_alone_reach_every_point_and_zoom(browser: Any, root: Path, serving: Serving) -> None:
    with serving(root) as address, shown(browser, address) as page:
        drawn(page, "2 runs")
        page.locator("#chart").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Home")
        readout = page.locator("#readout")
        until(page, lambda: " at 1 " in readout.inner_text())
        first = readout.inner_text()
        page.keyboard.press("ArrowRight")
        until(page, lambda: readout.inner_text() != first)
        second = readout.inner_text()
        name = first.partition(":")[0]
        own = LOSSES if name == "exp/gpt" else [one + 1 for one in LOSSES]
        assert f"loss {own[0]:g} at 1 " in first and f"loss {own[1]:g} at 2 " in second
        page.keyboard.press("ArrowDown")
        until(page, lambda: readout.inner_text().partition(":")[0] != name)
        assert readout.inner_text().partition(":")[0] != name
        low, high = extent(page)
        page.keyboard.press("+")
        until(page, lambda: extent(page) != [low, high])
        nearer = extent(page)
        assert low < nearer[0] < nearer[1] < high
        page.keyboard.press("0")
        until(page, lambda: extent(page) == pytest.approx([low, high]))
        assert extent(page) == pytest.approx([low, high])


def test_dragging_over_a_part_shows_it_finer(browser: Any, written: Written, tmp_path: Path, serving: Serving) -> None:
    run = written("exp/long", [3.0])
    line = (run / "metrics.jsonl").read_text()
    changed = ('"step":1,', '"tokens":1000,', '"loss":3.0,')
    with open(run / "metrics.jsonl", "w") as file:
        for step in range(1, 20_001):
            new = (f'"step":{step},', f'"tokens":{step}000,', f'"loss":{step % 97}.5,')
            text = line
            for old, value in zip(changed, new, strict=True):
                text = text.replace(old, value)
            file.write(text)
    with serving(tmp_path) as address, shown(browser, address) as page:
        drawn(page, "1 run, ")
        before = extent(page)
        box = page.locator("#chart").bounding_box()
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
        page.mouse.up()
        until(page, lambda: extent(page) != before)
        low, high = extent(page)
        assert high - low < 0.2 * (before[1] - before[0])

        def inside() -> list[float]:
            xs = page.evaluate("() => Array.from(document.querySelector('#chart').chart.lines[0].x)")
            return [x for x in xs if low <= x <= high]

        until(page, lambda: len(inside()) > 1000)
        assert len(inside()) > 1000  # before there were 2,000 points of all 20,000 steps


def test_filters_choose_what_is_shown_and_drawn(browser: Any, root: Path, serving: Serving) -> None:
    with serving(root) as address, shown(browser, address) as page:
        drawn(page, "2 runs")
        rows = page.locator("#runs tbody tr:visible")
        page.locator("select[data-key='model.name']").select_option("bert-mini")
        until(page, lambda: rows.count() == 1)
        assert rows.count() == 1 and "exp/bert" in rows.first.inner_text()
        drawn(page, "1 run,")
        page.locator("select[data-key='model.name']").select_option("")
        for words, count in (
            ("optim.lr>=0.005", 1),
            ("gpt-mini", 1),
            ("optim.lr<1 exp", 2),
            ("state=finished", 0),
            ("bert nope", 0),
        ):
            page.locator("#find").fill(words)
            until(page, lambda count=count: rows.count() == count)  # type: ignore[misc]
            assert (words, rows.count()) == (words, count)


def test_what_a_run_writes_appears(browser: Any, root: Path, written: Written, serving: Serving) -> None:
    with serving(root) as address, shown(browser, address) as page:
        drawn(page, "2 runs, 122 points")
        append_steps(root / "exp/gpt", [1.25], begin=61)
        page.locator("tr[data-run]", has_text="1.2500").wait_for()
        drawn(page, "2 runs, 123 points")
        written("exp/new", [2.0, 1.5])
        page.locator("tr[data-run]", has_text="exp/new").wait_for()


def test_axes_and_means(browser: Any, root: Path, serving: Serving) -> None:
    with serving(root) as address, shown(browser, address) as page:
        drawn(page, "2 runs")
        page.locator("#all").click()

        def end(line: str, values: str) -> float | None:
            """The last of these values of the first such line, if there is one."""
            found = f"document.querySelector('#chart').chart.lines.find(one => {line})"
            return page.evaluate(f"() => Array.from({found}?.{values} ?? []).pop() ?? null")

        for axis, last in (("flop", 90), ("seconds", 30), ("kwh", 120), ("step", 60)):  # TFLOP, s, Wh
            page.locator("#x").select_option(axis)
            drawn(page, "2 runs")
            until(page, lambda last=last: end("one.x.length > 50", "x") == pytest.approx(last, rel=1e-5))  # type: ignore[misc]
            assert end("one.x.length > 50", "x") == pytest.approx(last, rel=1e-5)
        page.locator("#mean").fill("2")
        mean, of_gpt = pytest.approx(sum(LOSSES[-4:]) / 4, rel=1e-5), "one.name === 'exp/gpt' && one.alpha === 1"
        until(page, lambda: end(of_gpt, "y") == mean)
        assert end(of_gpt, "y") == mean
        page.locator("#log-x").check()
        page.locator("#log-y").check()
        drawn(page, "2 runs")


def test_a_run_by_itself_has_its_events_prices_and_texts(browser: Any, root: Path, serving: Serving) -> None:
    (root / "exp/gpt/report.html").write_text("<h1>its report</h1>")
    sample = {"step": 40, "tokens_seen": 40_000, "prompt": "Once", "text": "<i>upon</i> a time"}
    (root / "exp/gpt/samples.jsonl").write_text(json.dumps(sample) + '\n{"torn')
    with serving(root) as address, shown(browser, address) as page:
        page.locator("button.open", has_text="exp/gpt").click()
        page.locator("#run-chart canvas").first.wait_for()
        panel = page.locator("#panel")
        text = panel.inner_text()
        assert "<i>upon</i> a time" in text and "far up" in text
        assert re.search(r"energy\s+500 Wh\s+120 Wh", text) and re.search(r"carbon\s+not stated\s+42 g", text)
        found = "() => document.querySelector('#run-chart').chart?.lines.find(one => one.mark)"
        until(page, lambda: page.evaluate(found) is not None)
        marks = page.evaluate(found)
        assert marks["texts"] == ["step 30, spike: far up"]
        page.evaluate(
            "([x, y]) => document.querySelector('#run-chart').chart.point(x, y)", [marks["x"][0], marks["y"][0]]
        )
        page.locator("#run-readout", has_text="far up").wait_for()  # the event, and not the loss of its step
        assert (
            panel.locator("a", has_text="report").get_attribute("href")
            in page.locator("tr", has_text="exp/gpt").inner_html()
        )
        page.keyboard.press("Escape")
        assert panel.is_hidden()
        assert page.evaluate("() => document.activeElement.textContent") == "exp/gpt"


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(browser: Any, root: Path, serving: Serving, width: int, scheme: str) -> None:
    context = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "bypass_csp": True}
    with serving(root) as address, shown(browser, address, **context) as page:
        drawn(page, "2 runs")
        page.locator("button.open").first.click()
        page.locator("#run-chart canvas").first.wait_for()
        assert findings(page) == []
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width  # nothing hangs over the edge


def test_without_scripts_every_run_has_state_loss_and_price(browser: Any, root: Path, serving: Serving) -> None:
    with serving(root) as address, shown(browser, address, java_script_enabled=False) as page:
        rows = page.locator("#runs tbody tr")
        assert rows.count() == 2
        text = page.locator("tr", has_text="exp/gpt").inner_text()
        assert "interrupted" in text
        assert f"{LOSSES[-1]:.4f}" in text and "120 Wh" in text and "42 gCO2e" in text
        assert "Without scripts" in page.locator("noscript").inner_text()
        assert not page.locator("#find").is_visible()


def test_the_rows_behind_the_first_hundred_come_with_and_without_scripts(
    browser: Any, written: Written, tmp_path: Path, serving: Serving
) -> None:
    for number in range(120):
        written(f"exp/{number:03}", [3.0], seed=number)
    with serving(tmp_path) as address:
        with shown(browser, address) as page:
            page.locator("#found", has_text="120 of 120 runs").wait_for()
            assert page.locator("#runs tbody tr").count() == 120
        with shown(browser, address, java_script_enabled=False) as page:
            assert page.locator("tr[data-run]").count() == 120


def test_shift_and_a_drag_move_the_view(browser: Any, root: Path, serving: Serving) -> None:
    with serving(root) as address, shown(browser, address) as page:
        drawn(page, "2 runs")
        page.locator("[data-do='in']").click()
        until(page, lambda: extent(page)[1] < 50)
        low, high = extent(page)
        box = page.locator("#chart").bounding_box()
        inner = page.evaluate("() => document.querySelector('#chart').chart.figure.inner_width")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.keyboard.down("Shift")
        page.mouse.down()
        page.mouse.move(x - inner / 4, y, steps=4)
        page.mouse.up()
        page.keyboard.up("Shift")
        moved = pytest.approx([low + (high - low) / 4, high + (high - low) / 4], rel=0.01)
        until(page, lambda: extent(page) == moved)
        assert extent(page) == moved  # by the way of the mouse, neither nearer nor farther
        page.mouse.move(x, y)
        assert extent(page) == moved


def test_a_run_that_ends_is_told_everywhere(browser: Any, root: Path, serving: Serving) -> None:
    """In its row, in the filter of states, and in what is open of it."""
    with serving(root) as address, shown(browser, address) as page:
        drawn(page, "2 runs")
        page.locator("button.open", has_text="exp/bert").click()
        page.locator("#run-chart canvas").first.wait_for()
        panel = page.locator("#panel")
        assert "no report yet" in panel.inner_text() and "This run wrote none." in panel.inner_text()
        (root / "exp/bert/samples.jsonl").write_text('{"step":60,"tokens_seen":60000,"prompt":"Once","text":"upon"}\n')
        (root / "exp/bert/report.html").write_text("<h1>its report</h1>")
        with open(root / "exp/bert/events.jsonl", "a") as file:
            file.write('{"name":"finished","time":1.7e9,"step":60,"text":"that was all"}\n')
        panel.locator("text=that was all").wait_for()
        until(page, lambda: "upon" in panel.locator("[data-part='Text along training']").inner_text())
        assert "upon" in panel.locator("[data-part='Text along training']").inner_text()
        assert "upon" not in panel.locator("[data-part='Logbook']").inner_text()
        assert panel.locator("[data-part='head']").inner_text() == "finished · report.html"
        page.locator("select[data-key='state']").select_option("finished")
        until(page, lambda: page.locator("#runs tbody tr:visible").count() == 1)
        assert "exp/bert" in page.locator("#runs tbody tr:visible").inner_text()
        assert page.locator("#found").inner_text() == "1 of 2 runs"


def test_the_page_of_a_server_that_was_started_again_is_loaded_again(
    browser: Any, root: Path, written: Written
) -> None:
    """Its numbers are other runs: `exp/also` comes before those that were there."""
    with serving_board(root) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        with shown(browser, address) as page:
            drawn(page, "2 runs")
            written("exp/also", [9.0])
            server.board = opened(root)  # as another process on the same port
            page.locator("#found", has_text="3 of 3 runs").wait_for()
            page.locator("button.open", has_text="exp/also").click()
            page.locator("#panel-title", has_text="exp/also").wait_for()


def test_a_finger_that_goes_sideways_moves_the_view(browser: Any, root: Path, serving: Serving) -> None:
    touch = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with serving(root) as address, shown(browser, address, **touch) as page:
        drawn(page, "2 runs")
        page.locator("[data-do='in']").click()
        until(page, lambda: extent(page)[1] < 50)
        low, high = extent(page)
        page.locator("#chart").scroll_into_view_if_needed()
        box = page.locator("#chart").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        fingers = page.context.new_cdp_session(page)
        fingers.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for by in range(10, 81, 10):
            fingers.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x - by, "y": y}]})
        fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        until(page, lambda: extent(page)[0] > low + 1)
        begin, end = extent(page)
        assert begin > low + 1 and end - begin == pytest.approx(high - low)


def test_names_and_texts_of_a_run_are_never_code(
    browser: Any, written: Written, tmp_path: Path, serving: Serving
) -> None:
    """Of its folder, its configuration, its logbook and what it wrote. Whatever were refused would be told."""
    evil = "<img src=x onerror=document.title='evil'><script>document.title='evil'<\\script>'\"`${alert(1)}"
    name = evil.replace("/", "")
    run = written(f"exp/{name}", LOSSES, model=evil, events=[("start", 0, "x"), ("spike", 30, evil)])
    written("exp/b", LOSSES)
    (run / "samples.jsonl").write_text(json.dumps({"step": 1, "tokens_seen": 1, "prompt": evil, "text": evil}) + "\n")
    with serving(tmp_path) as address, shown(browser, address) as page:
        drawn(page, "2 runs")
        page.locator("button.open", has_text="img").click()
        page.locator("#run-chart canvas").first.wait_for()
        panel = page.locator("#panel")
        assert panel.inner_text().count("<img src=x") >= 5  # name, model, event, prompt, text
        assert page.locator("select[data-key='model.name'] option", has_text="onerror").count() == 1
        page.locator("#chart").focus()
        page.keyboard.press("ArrowRight")
        page.locator("#readout", has_text=": loss").wait_for()
        assert "evil" not in page.title() and page.locator("main img, main script").count() == 0
