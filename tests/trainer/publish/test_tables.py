"""Tables that LaTeX can set, whatever names runs have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.publish.latex import LETTERS, LONG, Table, code, escape

ENVIRONMENT = re.compile(r"\\(begin|end)\{(\w+\*?)\}")
CELLS = st.lists(st.text(max_size=60), min_size=3, max_size=3)


def balanced(text: str) -> None:
    """Environments are nested, and braces that are no letters are balanced."""
    open_ones: list[str] = []
    for kind, name in ENVIRONMENT.findall(text):
        if kind == "begin":
            open_ones.append(name)
        else:
            assert open_ones and open_ones.pop() == name
    assert open_ones == []
    plain = re.sub(r"\\[{}\\]", "", text)
    depth = 0
    for letter in plain:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0


def check(text: str) -> None:
    """One table: rules in order, and in each row as many cells as there are columns."""
    balanced(text)
    for shares in re.findall(r"\\begin\{(?:tabular|longtable)\}\{(.*)\}", text):  # no wider than the page
        assert sum(map(float, re.findall(r"p\{([0-9.]+)\\linewidth\}", shares))) <= 1, shares
    text = re.sub(r">\{\\raggedright\\arraybackslash\}p\{\d\.\d+\\linewidth\}", "l", text)
    assert text.count(r"\caption{") == text.count(r"\label{") == 1
    blocks = re.split(r"\\begin\{(?:tabular|longtable)\}", text)[1:]
    assert blocks
    for block in blocks:
        marks = re.match(r"\{([lr]+)\}", block)
        assert marks
        assert re.findall(r"\\(toprule|midrule|bottomrule)", block)[:2] == ["toprule", "midrule"]
        assert block.count(r"\bottomrule") == 1
        body = block[marks.end() : block.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r" \\") and not line.startswith(r"\caption")]
        assert rows
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(marks[1]) - 1, row


@given(st.text())
def test_no_letter_of_a_name_is_a_command(text: str) -> None:
    for made in (escape(text), code(text)):
        balanced(made)
        assert made.isascii() or re.fullmatch("[\x00-\xff]*", made)
        bare = re.sub(r"\\(text\w+\{\}|allowbreak\{\}|texttt\{|[&%$#_{}])", "", made)
        assert not set(bare.removesuffix("}")) & set('\\&%$#_{~^<>|"')


@given(st.lists(CELLS, min_size=1, max_size=LONG + 3), st.lists(st.text(max_size=80), max_size=2))
def test_any_cells_make_a_table(rows: list[list[str]], notes: list[str]) -> None:
    made = Table("a_b", "50% of $x", ("", "a&b", "c_d"), rows, "isoflop x", "0" * 64, frozenset((1,)), notes)
    check(made.to_latex())


@pytest.mark.parametrize("count", [1, 5, 12, 40])
def test_what_is_wider_than_the_page_stands_in_blocks(count: int) -> None:
    """Every cell once, what the rows are of in each block, and no block of more letters than a line has."""
    head = ["experiment", "kind", *(f"optim.lr=0.{number:03}" for number in range(count))]
    rows = [["a_b", kind, *(f"{kind} of {number}" for number in range(count))] for kind in ("final", "tuning")]
    numbers = frozenset(range(2, count + 2))
    text = Table("wide", "Wide", head, rows, "isoflop x", "0" * 64, numbers).to_latex()
    check(text)
    for row in rows:
        assert all(text.count(f" {cell} ") == 1 for cell in row[2:])
    blocks = text.count(r"\begin{tabular}")
    assert text.count(r"a\_b & final &") == blocks and (blocks > 1) == (count > 5)
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert max(len(line.replace("\\", "")) for line in lines) <= LETTERS


def test_published_tables_can_be_set(published: Path) -> None:
    found = sorted((published / "tables").glob("*.tex"))
    names = [path.name for path in found if path.name != "cost.tex"]
    assert {"price-tag.tex", "ledger.tex", "runs.tex"} <= set(names)
    assert any(name.startswith("compare-") for name in names) and any(name.startswith("grid-") for name in names)
    for path in found:
        text = path.read_text()
        balanced(text)
        if path.name != "cost.tex":
            check(text)
            assert re.search(r"\\texttt\{isoflop ", text) and re.search(
                r"sha256 of its sources: \\texttt\{\w{12}\}", text
            )
    paper = (published / "paper.tex").read_text()
    balanced(paper)
    assert all(rf"\input{{tables/{path.stem}}}" in paper for path in found) and "booktabs" in paper


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("ledger.tex", ["total & 4 &", "4 kWh", "1.6 kg CO2e"]),
        ("runs.tex", ["/killed & ", "1 kWh", "400 g CO2e"]),
        ("price-tag.tex", [r"Not stated:"]),
    ],
)
def test_the_numbers_are_those_of_the_readings(published: Path, table: str, words: list[str]) -> None:
    """Four runs of 1 kWh at 400 g/kWh, counted by hand."""
    text = (published / "tables" / table).read_text()
    assert [word for word in words if word not in text] == []
