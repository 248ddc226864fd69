"""The built site: all pages and keys are there, nothing is fetched from elsewhere, and its search finds answers."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.docs.commands import ROOT
from tests.in_browser import chromium, findings
from trainer.cli.main import VERBS
from trainer.config import Config, GridConfig, LadderConfig
from trainer.utils.schema import Section

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
QUESTIONS = {
    "do I need a GPU": "Do I need a GPU?",
    "train on my own text files": "How do I train on my own text files?",
    "out of memory": "My GPU is out of memory. What now?",
    "resume after a crash": "How do I resume after a crash?",
    "loss is NaN why": "The loss is NaN. Why?",
    "compare two runs": "How do I compare two runs?",
    "carbon footprint for my paper": "How do I get the carbon footprint for my paper?",
    "use my model in transformers": "How do I use my model in transformers?",
    "which learning rate should I take": "Which learning rate should I take?",
    "continue training a Llama": "Can I continue training a Llama or a GPT-2?",
    "use an existing tokenizer": "How do I use an existing tokenizer?",
    "why does it say not stated": 'Why does it say "not stated"?',
}


class Fetched(HTMLParser):
    """What a page makes a browser fetch, and the ids that links may lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        followed = tag == "link" and (given.get("rel") or "") in ("canonical", "prev", "next")
        if tag in FETCHED and not followed and given.get(FETCHED[tag]):
            self.addresses.append(str(given[FETCHED[tag]]))


def pages(site: Path) -> list[Path]:
    """Those that are made of Markdown; results hold pages of the reports beside them."""
    made = {path.with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    names = {str(path.relative_to(ROOT / "docs")).replace("README.html", "index.html") for path in made}
    return [site / name for name in sorted(names)] + sorted(site.glob("reference/*.html"))


def test_every_page_of_docs_is_built(site: Path) -> None:
    assert [page for page in pages(site) if not page.is_file()] == []
    assert len(pages(site)) > 80


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    """Fonts, scripts and styles lie beside the pages; those of styles too."""
    found = [(page.name, one) for page in pages(site) for one in Fetched(page.read_text()).addresses]
    assert len(found) > 200
    assert [one for one in found if re.match(r"(https?:)?//", one[1])] == []
    styles = [style.read_text() for style in site.rglob("*.css")]
    assert [one for text in styles for one in re.findall(r"url\(\s*['\"]?((?:https?:)?//[^)]+)|@import", text)] == []


def keys(section: type[Section], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inside = field.annotation
        if isinstance(inside, type) and issubclass(inside, Section):
            yield from keys(inside, f"{prefix}.{name}" if prefix else name)
        else:
            yield f"{prefix}.{name}" if prefix else name


def test_every_key_has_its_place_in_the_reference(site: Path) -> None:
    expected = [*keys(Config, ""), *keys(LadderConfig, "ladder"), *keys(GridConfig, "grid")]
    ids = {name: Fetched(file.read_text()).ids for file in site.glob("reference/*.html") for name in [file.stem]}
    assert len(expected) > 400
    assert [key for key in expected if key not in ids[key.split(".")[0]]] == []


def test_the_reference_says_type_bounds_unit_default_and_kind(site: Path) -> None:
    """By what the schema's own source says of some keys."""

    def entry(group: str, key: str) -> str:
        text = (site / f"reference/{group}.html").read_text()
        part = text.partition(f'id="{key}"')[2].partition("<h3")[0]
        return " ".join(re.sub(r"<[^>]+>", " ", part).replace("&para;", "").split())

    depth = entry("model", "model.depth")
    assert "number of blocks" in depth and "takes: whole number, at least 1" in depth and "unit: layers" in depth
    rate = entry("optim", "optim.lr")
    assert "takes: number, above 0" in rate and "default: 0.003 ; a run without words has 0.004" in rate
    share = entry("data", "data.held_out")
    assert "number, above 0, below 0.5" in share and "default: 0.05" in share
    assert "kind: numerics" in entry("engine", "engine.precision") and "auto , fp32 , bf16" in entry(
        "engine", "engine.precision"
    )
    assert "read by: name=adafactor" in entry("optim", "optim.update_clip")
    assert "x where it is positive, else 0" in entry("model", "model.activation")
    assert "also 50k" in entry("budget", "budget.tokens")
    assert "data.sources.&lt;name&gt;.path" in entry("data", "data.sources.name.path")


def test_every_verb_has_its_help(site: Path) -> None:
    ids = Fetched((site / "reference/verbs.html").read_text()).ids
    assert [verb for verb in VERBS if f"isoflop-{verb}" not in ids] == []


def test_there_are_at_least_25_questions() -> None:
    asked = re.findall(r"^### (.+)$", (ROOT / "docs/faq.md").read_text(), re.MULTILINE)
    assert len(asked) >= 25 and set(QUESTIONS.values()) <= set(asked)


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def test_its_search_finds_ten_questions_by_plain_words(browser: Any, address: str) -> None:
    """As a reader does: words into the field, and the question among the three best results."""
    page = browser.new_page()
    outside, errors = [], []
    page.on("request", lambda request: outside.append(request.url) if not request.url.startswith(address) else None)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    missed = {}
    for words, question in QUESTIONS.items():
        page.goto(f"{address}/index.html?q={quote(words)}")  # what the site's field does with words, as an address
        page.wait_for_selector(".md-search-result__item", state="attached", timeout=30_000)
        titles = page.locator(".md-search-result__item article :is(h1, h2)").all_text_contents()
        if not any(question in title for title in titles[:3]):
            missed[words] = titles[:3]
    assert not missed
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []
    assert errors == []


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_the_window(browser: Any, address: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    for name in ("index", "tutorial", "faq", "how-to/what-fits", "reference/optim", "price-tag"):
        page.goto(f"{address}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_serious_barrier(browser: Any, address: str, scheme: str) -> None:
    """By axe: contrast of code and menus, names of links, order of headings."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page, found = context.new_page(), []
    for name in ("tutorial", "faq", "reference/optim", "price-tag"):
        page.goto(f"{address}/{name}.html")
        found += [(name, one) for one in findings(page)]
    context.close()
    assert found == []


def test_the_index_of_search_holds_the_text_of_all_pages(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text())
    places = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert len(places) >= len(pages(site))
