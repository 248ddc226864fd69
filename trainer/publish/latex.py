"""Tables of LaTeX with the rules of the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}
SHORT = 12  # digits of a hash beside a table
LONG = 40  # rows from which on a table goes over pages
FLOATS = 6  # tables from one page of floats to the next: LaTeX holds 18 at a time
LETTERS = 90  # of a line of a table in this size
LONGEST_CELL = 40  # characters; a longer one would push the others off the page
PACKAGES = r"""\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{array,booktabs,longtable}"""


def escape(text: str) -> str:
    """Text as LaTeX prints it letter by letter; what has no letter in a T1 font is a question mark."""
    plain = " ".join(text.split())
    return "".join(
        SPECIAL.get(letter, letter if " " <= letter < "\x7f" or letter in _LATIN else "?") for letter in plain
    )


_LATIN = frozenset(chr(code) for code in range(0xC0, 0x100) if code not in (0xD7, 0xF7))


def code(text: str) -> str:
    """A command or a hash in a fixed font, which may be broken at blanks, slashes and equals signs."""
    broken = re.sub("([=/,]|-(?=.))", r"\1\\allowbreak{}", escape(text))
    return rf"\texttt{{{broken}}}"


@dataclass(frozen=True)
class Table:
    """One table: its name as a file, columns, rows of plain text, and what it can be made again by."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    command: str
    hash: str  # sha256 of what it is made from
    numbers: frozenset[int] = field(default_factory=frozenset)  # columns that are set to the right
    notes: Sequence[str] = ()

    def to_latex(self) -> str:
        """A floating table, or one that goes on over pages where it is long. The command and the hash stand below it,
        so that whoever prints it prints them."""
        width = len(self.columns)
        assert all(len(row) == width for row in self.rows), self.name
        marks = self._marks()
        label = re.sub("[^a-z0-9-]+", "-", self.name.lower())
        caption = rf"\caption{{{escape(self.caption)}}}\label{{tab:{label}}}"
        head = [r"\toprule", " & ".join(map(escape, self.columns)) + r" \\", r"\midrule"]
        rows = [" & ".join(escape(_cut(cell)) for cell in row) + r" \\" for row in self.rows]
        if len(rows) > LONG:
            body = [
                rf"{{\footnotesize\setlength{{\tabcolsep}}{{4pt}}\begin{{longtable}}{{{marks}}}",
                caption + r" \\",
                *head,
                r"\endfirsthead",
                *head,
                r"\endhead",
                *rows,
                r"\bottomrule",
                r"\end{longtable}}",
                *self._below(),
            ]
        else:
            body = [
                r"\begin{table}[htbp]",
                r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
                caption,
                rf"\begin{{tabular}}{{{marks}}}",
                *head,
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                "",
                *self._below(),
                r"\end{table}",
            ]
        return "\n".join([rf"% isoflop publish: {self.name}", *body]) + "\n"

    def _marks(self) -> str:
        """How columns are set: as wide as they are where all fit the page, else columns of text are broken into lines,
        each by its share of the letters."""
        columns = zip(self.columns, *self.rows, strict=True)
        widest = [max(len(_cut(cell)) for cell in column) for column in columns]
        text = [number for number in range(len(widest)) if number not in self.numbers]
        if sum(widest) + 2 * len(widest) <= LETTERS or not text:
            return "".join("r" if number in self.numbers else "l" for number in range(len(widest)))
        taken = sum(widest[number] + 2 for number in self.numbers) + 2 * len(text)
        left = 0.95 * max(LETTERS - taken, LETTERS / 4) / LETTERS
        letters = sum(widest[number] for number in text) or 1
        shares = {number: left * widest[number] / letters for number in text}
        broken = r">{{\raggedright\arraybackslash}}p{{{:.3f}\linewidth}}"
        return "".join(broken.format(shares[number]) if number in shares else "r" for number in range(len(widest)))

    def _below(self) -> list[str]:
        return [
            r"\smallskip\begin{minipage}{\linewidth}\footnotesize\raggedright",
            *(escape(note) + r"\par" for note in self.notes),
            rf"{code(self.command)}\par",
            rf"sha256 of its sources: {code(self.hash[:SHORT])}",
            r"\end{minipage}",
        ]


def _cut(cell: str) -> str:
    return cell if len(cell) <= LONGEST_CELL else cell[: LONGEST_CELL - 3] + "..."


def document(title: str, paragraphs: Sequence[str], names: Sequence[str]) -> str:
    """A whole document that shows paragraphs of LaTeX and takes in the files of these names."""
    inputs = [
        rf"\input{{{name}}}" + ("\n" + r"\clearpage" if number % FLOATS == FLOATS - 1 else "")
        for number, name in enumerate(names)
    ]
    body = "\n\n".join([*paragraphs, *inputs])
    return rf"""\documentclass{{article}}
{PACKAGES}
\begin{{document}}
\section*{{{escape(title)}}}
{body}
\end{{document}}
"""
