"""Documents of Jupyter's notebooks (nbformat 4)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from trainer.config import DataConfig
from trainer.data.document import DocumentPart, Source
from trainer.data.files import blocks, decoded
from trainer.utils.errors import UserError


def notebook_documents(source: Source, data: DataConfig) -> Iterator[DocumentPart]:
    """One document, of the cells that `data.cells` names."""
    content = decoded(source, b"".join(blocks(source)), 0)
    try:
        cells = json.loads(content)["cells"]
        texts = ["".join(cell["source"]) for cell in cells if data.cells in ("all", cell["cell_type"])]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"data: {source.path} is no notebook of nbformat 4") from None
    yield DocumentPart(source.name, "\n\n".join(texts), first=True, last=True, read=len(content))
