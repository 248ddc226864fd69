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
LETTERS = 105  # of a line of a table in this size
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


def pieces(text: str) -> list[str]:
    """The parts of a text between which a line may end."""
    return [piece for word in text.split() for piece in re.split(r"(?<=[=/_])|(?<=\.)(?=[A-Za-z])", word) if piece]


def breakable(text: str) -> str:
    """As `escape`, with places where a long word may be broken."""
    return " ".join(r"\allowbreak{}".join(map(escape, pieces(word))) for word in text.split())


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
        """A floating table, or one that goes on over pages where it is long. Columns that do not fit beside each other
        stand below each other, each time with the first one. The command and the hash stand below it, so that whoever
        prints it prints them."""
        width = len(self.columns)
        assert all(len(row) == width for row in self.rows), self.name
        label = re.sub("[^a-z0-9-]+", "-", self.name.lower())
        caption = rf"\caption{{{escape(self.caption)}}}\label{{tab:{label}}}"
        blocks = self.blocks()
        if len(blocks) * len(self.rows) > LONG:
            body = []
            for number, block in enumerate(blocks):
                body += [
                    rf"{{\footnotesize\setlength{{\tabcolsep}}{{4pt}}\begin{{longtable}}{{{self._marks(block)}}}",
                    *([] if number else [caption + r" \\"]),
                    *(head := self._head(block)),
                    r"\endfirsthead",
                    *head,
                    r"\endhead",
                    *self._lines(block),
                    r"\bottomrule",
                    r"\end{longtable}}",
                    *([r"\addtocounter{table}{-1}"] if number else []),  # one table, of one number
                ]
            body += self._below()
        else:
            body = [r"\begin{table}[htbp]", r"\centering\footnotesize\setlength{\tabcolsep}{4pt}", caption]
            for block in blocks:
                body += [
                    rf"\begin{{tabular}}{{{self._marks(block)}}}",
                    *self._head(block),
                    *self._lines(block),
                    r"\bottomrule",
                    r"\end{tabular}",
                    "",
                    *([] if block is blocks[-1] else [r"\medskip"]),
                ]
            body += [*self._below(), r"\end{table}"]
        return "\n".join([rf"% isoflop publish: {self.name}", *body]) + "\n"

    def _head(self, block: Sequence[int]) -> list[str]:
        return [r"\toprule", self._line(self.columns, block), r"\midrule"]

    def _lines(self, block: Sequence[int]) -> list[str]:
        return [self._line(row, block) for row in self.rows]

    def _line(self, cells: Sequence[str], block: Sequence[int]) -> str:
        """Of these columns; long words of a column of text may be broken where its lines are."""
        broken = self._is_broken(block)
        parts = (cells[number] if cells is self.columns else _cut(cells[number]) for number in block)
        texts = (
            breakable(part) if broken and number not in self.numbers else escape(part)
            for number, part in zip(block, parts, strict=True)
        )
        return " & ".join(texts) + r" \\"

    def _widest(self) -> list[int]:
        """Letters of the widest cell of each column."""
        columns = zip(self.columns, *self.rows, strict=True)
        return [max(len(_cut(cell)) for cell in column) for column in columns]

    def _least(self, number: int) -> int:
        """Letters that a column needs: of one of text those of the longest piece that is not broken."""
        cells = [self.columns[number], *(row[number] for row in self.rows)]
        if number in self.numbers:
            return max(len(_cut(cell)) for cell in cells)
        return 1 + max((len(piece) for cell in cells for piece in pieces(_cut(cell))), default=0)

    def blocks(self, letters_of_line: int = LETTERS) -> list[tuple[int, ...]]:
        """Columns that stand beside each other; those that say what a row is of are in each block."""
        names = self._names()
        taken = least = sum(self._least(number) + 2 for number in names)
        blocks, block = [], list(names)
        for number in range(len(names), len(self.columns)):
            letters = self._least(number) + 2
            if len(block) > len(names) and taken + letters > letters_of_line:
                blocks.append(tuple(block))
                block, taken = list(names), least
            block.append(number)
            taken += letters
        return [*blocks, tuple(block)]

    def _names(self) -> list[int]:
        """The columns of text before the first number, two at most; the first one where all are of text."""
        before = next((number for number in range(len(self.columns)) if number in self.numbers), 1)
        return list(range(min(max(before, 1), 2)))

    def _is_broken(self, block: Sequence[int]) -> bool:
        """Whether columns of text are broken into lines, for they do not fit the page as they are."""
        text = [number for number in block if number not in self.numbers]
        widest = self._widest()
        return bool(text) and sum(widest[number] + 2 for number in block) > LETTERS

    def _marks(self, block: Sequence[int]) -> str:
        """How columns are set: as wide as they are where all fit the page, else columns of text are broken into lines:
        each has what its longest piece needs, and of what is left a share by its letters."""
        if not self._is_broken(block):
            return "".join("r" if number in self.numbers else "l" for number in block)
        text, widest = [number for number in block if number not in self.numbers], self._widest()
        least = {number: self._least(number) for number in block}
        left = max(0, LETTERS - sum(least.values()) - 2 * len(block))
        wanted = {number: max(0, widest[number] - least[number]) for number in text}
        scale = min(1.0, left / (sum(wanted.values()) or 1))
        shares = {number: (least[number] + scale * wanted[number]) / LETTERS for number in text}
        broken = r">{{\raggedright\arraybackslash}}p{{{:.3f}\linewidth}}"
        return "".join(broken.format(shares[number]) if number in shares else "r" for number in block)

    def _below(self) -> list[str]:
        return [
            r"\smallskip\noindent\begin{minipage}{\linewidth}\footnotesize\raggedright",
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
