"""Plain text."""

from __future__ import annotations

from typing import Literal

from trainer.descriptions.readers import ReaderDescription
from trainer.utils.schema import key

PROSE = ".txt .text .md .rst .tex .org .html .htm .xml .csv .tsv .log .srt .yaml .yml .toml .ini .cfg"
CODE = (
    ".py .pyi .c .h .cc .cpp .hpp .cu .java .js .ts .go .rs .rb .php .pl .sh .sql .r .jl .lua .swift .kt .scala .hs .ml"
)


class Text(ReaderDescription):
    """UTF-8 text, whatever it is of."""

    name = "text"
    help = "text in UTF-8: prose, markup, source code"
    implementation = "trainer.data.readers:text_documents"
    suffixes = (*PROSE.split(), *CODE.split())

    class Keys(ReaderDescription.Keys):
        """How a file is cut up."""

        document: Literal["file", "paragraph", "line"] = key("file", "what one document is in a plain text file")
