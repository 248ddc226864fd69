"""`isoflop --help` and `isoflop help`: one screen, what is found, and pages."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from trainer.cli.main import main
from trainer.cli.pages import page_of
from trainer.cli.verbs import TABLE, listing, usage
from trainer.config import Config
from trainer.config.validate import keys
from trainer.utils.documentation import ABOUT, about, pages, sections

DOCS = Path(__file__).resolve().parents[3] / "docs"
Said = pytest.CaptureFixture[str]


def found(capsys: Said, *words: str) -> str:
    assert main(["help", *words]) == 0
    return capsys.readouterr().out


def test_help_fits_a_screen_and_names_every_verb() -> None:
    lines = usage().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert set(TABLE) <= {word for line in lines for word in line.split()}
    assert max(map(len, listing().splitlines())) <= 80


def test_help_imports_no_verb() -> None:
    program = (
        "import sys; from trainer.cli.main import main; main(['--help']); main(['--version'])\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'yaml', 'hydra', 'bokeh', 'trainer.config'}\n"
        "sys.exit(str(sorted(heavy & {*sys.modules})) if heavy & {*sys.modules} else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TABLE)
def test_a_verb_is_where_the_table_says_and_has_a_page(name: str) -> None:
    module, _, function = TABLE[name].where.partition(".")
    assert callable(getattr(import_module(f"trainer.cli.{module}"), function))
    assert TABLE[name].page in pages()


def test_words_find_verbs_keys_values_presets_and_pages(capsys: Said) -> None:
    text = found(capsys, "attention")
    first = text.splitlines()[1]
    assert first.startswith("  kernels.attention ") and "[= auto]" in first
    assert "kernels.md#what-attention-means" in text
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 80
    text = found(capsys, "learning", "rates")
    assert "optim.lr " in text and "[= 0.003; > 0]" in text and "schedules.md#the-learning-rate" in text
    assert "  transfer " in text
    assert "model=bert-tiny" in found(capsys, "bert", "tiny")
    assert "objective.name=masked_lm" in found(capsys, "mask", "--all")
    assert "launch.md#preflight" in found(capsys, "preflight", "nodes")


def test_a_search_finds_every_key_by_its_name(capsys: Said) -> None:
    for key in keys()[::15]:
        assert key in found(capsys, *key.replace(".", " ").replace("_", " ").split(), "--all"), key


def test_one_key_is_told_with_its_bounds(capsys: Said) -> None:
    text = found(capsys, "optim.batch_size")
    field = Config.model_fields["optim"].annotation.model_fields["batch_size"]  # type: ignore[union-attr]
    assert field.description in text and f"default  {field.default}" in text and "unit     sequences" in text
    assert "bounds   >= 1" in text and "science" in text
    text = found(capsys, "engine.precision")
    assert "auto | fp32 | bf16" in text and "numerics" in text and "architecture.md#precision-and-zero" in text


def test_help_of_a_verb_is_its_own_without_the_keys(capsys: Said) -> None:
    text = found(capsys, "plan")
    assert "--largest" in text and "model.depth" not in text and "price-tag.md" in text
    for verb in TABLE:
        assert len(found(capsys, verb).splitlines()) <= 60, verb


def test_what_is_not_found_has_the_nearest_words(capsys: Said) -> None:
    assert main(["help", "learnign", "rate"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "did you mean 'learning rate'?" in line
    for words in (["qqqzzz"], ["lunch.md"], ["launch.md#slrum"], ["the"], ["-x"]):
        assert main(["help", *words]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
    assert "alone there is learning, seed" in main_error(capsys, "learning", "seed", "qqqzzz")
    assert "'slurm'" in main_error(capsys, "launch.md#slrum")


def main_error(capsys: Said, *words: str) -> str:
    assert main(["help", *words]) == 2
    return capsys.readouterr().err


def test_pages_lie_in_the_package(capsys: Said) -> None:
    assert pages() == sorted(file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md"))
    assert found(capsys, "launch.md").strip() == (DOCS / "launch.md").read_text().strip()
    assert found(capsys, "docs/launch.md#slurm").startswith("SLURM\n\nThe script is rendered")


def test_every_page_that_a_page_links_to_is_printed(capsys: Said) -> None:
    """Those too that the site makes from the schema."""
    linked = set()
    for page in pages():
        for link in re.findall(r"\]\(([^)\s:#]+\.md)", (DOCS / page).read_text()):
            target = (DOCS / page).parent.joinpath(link).resolve()
            if target.is_relative_to(DOCS):
                linked.add(target.relative_to(DOCS).as_posix())
    assert len(linked) > 40 and {"reference/index.md", "reference/model.md"} <= linked
    for page in sorted(linked):
        assert found(capsys, page).strip(), page
    assert "optim.batch_size" in found(capsys, "reference/optim.md")
    assert found(capsys, "reference/optim.md#optim.lr") == found(capsys, "optim.lr")
    assert "'optim'" in main_error(capsys, "reference/optm.md")


@pytest.mark.parametrize("place", sorted({*ABOUT.values()}))
def test_a_place_that_an_error_names_is_there(place: str) -> None:
    page, _, anchor = place.partition("#")
    assert not anchor or anchor in {one.anchor for one in sections(page)}


@pytest.mark.parametrize("place", sorted(place for place in ABOUT.values() if "#" in place))
def test_mkdocs_makes_the_same_anchor(place: str) -> None:
    """Of the very heading: its own slugs, not our rule."""
    markdown = pytest.importorskip("markdown")
    page, _, anchor = place.partition("#")
    text = (DOCS / page).read_text()
    assert f'id="{anchor}"' in markdown.markdown(text, extensions=["toc", "fenced_code", "tables"])


def test_every_key_has_a_page_and_every_page_a_key() -> None:
    assert [key for key in keys() if about(key) is None] == []
    beginnings = {".".join(key.split(".")[:count]) for key in keys() for count in range(1, 5)}
    assert set(ABOUT) - beginnings == {"experiment", "grid", "ladder", "plugins", "resume"}


def test_an_error_is_of_its_key_else_of_its_verb() -> None:
    assert page_of("engine.compile: no", ["train"]) == "architecture.md#torchcompile"
    assert page_of("file.yaml:2: model.wdth: no such key", ["plan", "x"]) == "price-tag.md"
    assert page_of("launch.mail: 3 given", ["launch"]) == "launch.md"
    assert page_of("plan: name a run", ["--config-dir", "x", "plan"]) == "price-tag.md"
    assert page_of("nonsense: no such verb", ["nonsense"]) is None


def test_only_a_terminal_hears_of_the_page(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["plan", "model.dpeth=3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["plan", "model.dpeth=3"]) == 2
    assert capsys.readouterr().err.splitlines()[1].startswith("docs: models.md#presets ")
