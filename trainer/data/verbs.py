"""What the command line asks of this room."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.books.run_length import run_steps
from trainer.config import Config
from trainer.data.card import card as describe
from trainer.data.card import format_card
from trainer.data.preparation import Progress, prepare, prepare_tokenizer
from trainer.data.samples import Samples
from trainer.data.shards import write_whole
from trainer.data.show import format_show, show
from trainer.data.tokenizer import Tokenizer
from trainer.errors import UserError

__all__ = ["card", "format_card", "format_show", "format_tokenizer", "show", "tokenizer"]

SPECIMEN = "def mean(values):\n\treturn sum(values) / len(values)  # 3.14, größer, 漢字"


def card(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """The data card of a config's corpus, which is prepared if need be; `format_card` makes it Markdown.

    A mixture's card also says what the run reads of every source, stage by stage.
    """
    prepared = prepare(config, progress)
    found = describe(config, prepared)
    if config.data.name == "mixture":
        readings = Samples(prepared, config, "train").readings(run_steps(config) * config.optim.batch_size)
        found["mixture"] = [asdict(reading) for reading in readings]
    return found


def tokenizer(config: Config, out: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Train (or open) a config's tokenizer, copy it to `out` if given, and say what it is; nothing is encoded."""
    file = prepare_tokenizer(config, progress)
    opened = Tokenizer(file)
    if out is not None:
        if not out.parent.is_dir():
            raise UserError(f"out: there is no folder {out.parent}")
        if out.is_dir():
            raise UserError(f"out: {out} is a folder; name a file, e.g. out={out / 'tokenizer.model'}")
        write_whole(out, file.read_bytes())
    ids = opened.encode(SPECIMEN)
    return {
        "file": str(out or file),
        "kind": "imported" if config.tokenizer.path else config.tokenizer.name,
        "vocabulary": opened.vocabulary,
        "sha256": opened.sha256,
        "specials": opened.specials,
        "lossless": opened.decode(ids) == SPECIMEN,
        "specimen": [opened.piece(token) for token in ids],
    }


def format_tokenizer(facts: dict[str, Any]) -> str:
    """The same for a person to read; the 100 sentinels are counted, not listed."""
    named = [piece for piece in facts["specials"] if not piece.startswith("<extra_id_")]
    return "\n".join(
        [
            f"tokenizer {facts['file']}",
            f"kind      {facts['kind']}, {facts['vocabulary']:,} pieces, sha256 {facts['sha256'][:12]}",
            f"special   {' '.join(named)} and {len(facts['specials']) - len(named)} sentinels",
            f"lossless  {'yes' if facts['lossless'] else 'no: text does not come back exactly'}",
            f"specimen  {' '.join(map(repr, facts['specimen']))}",
        ]
    )
