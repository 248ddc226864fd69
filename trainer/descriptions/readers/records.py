"""Files of records, a field of which is the text."""

from __future__ import annotations

from trainer.descriptions.readers import FieldKeys, ReaderDescription


class Jsonl(ReaderDescription):
    """A JSON object a line."""

    name = "jsonl"
    help = "JSON Lines: an object a line, of which data.field is the text"
    implementation = "trainer.data.readers:json_documents"
    suffixes = (".jsonl", ".ndjson")

    class Keys(FieldKeys):
        """Which field."""


class Parquet(ReaderDescription):
    """A table of columns."""

    name = "parquet"
    help = "Parquet: a table, of which the column data.field is the text"
    implementation = "trainer.data.parquet:parquet_documents"
    suffixes = (".parquet",)
    magic = (b"PAR1",)
    unpacks = False
    library = "pyarrow"

    class Keys(FieldKeys):
        """Which column."""
