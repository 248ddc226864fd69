"""Documents of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as arrow
from pyarrow import parquet

from trainer.config import DataConfig
from trainer.data.document import DocumentPart, Source
from trainer.data.readers import value_at
from trainer.utils.errors import UserError, nearest


def parquet_documents(source: Source, data: DataConfig) -> Iterator[DocumentPart]:
    """Of every row the column `data.field`."""
    field = data.field
    try:
        with parquet.ParquetFile(source.path) as file:
            names = file.schema_arrow.names
            leaves = (file.schema.column(number).path for number in range(len(file.schema.names)))
            names += [leaf for leaf in leaves if leaf not in names]
            if field not in names:
                raise UserError(
                    f"data: {source.path} has no column {field!r}{nearest(field, names)}; "
                    f"set data.field to one of {', '.join(names)}"
                )
            rows = file.metadata.num_rows
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=[field]):
                for row in batch.to_pylist():
                    number += 1
                    text = value_at(row, field, f"{source.path} row {number}")
                    if not isinstance(text, str):
                        raise UserError(f"data: {source.path} row {number}: {field!r} holds no text but {text!r:.40}")
                    yield DocumentPart(f"{source.name}:{number}", text, True, True, source.size // max(rows, 1))
            if not rows:
                yield DocumentPart(source.name, "", True, True, source.size)
    except arrow.ArrowException as error:
        raise UserError(f"data: {source.path} is no whole Parquet file: {' '.join(str(error).split())}") from None
