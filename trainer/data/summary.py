"""What the command line asks of the data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.books.run_length import run_steps
from trainer.config import Config
from trainer.data.card import card as describe
from trainer.data.card import format_card
from trainer.data.preparation import Progress, cache_root, prepare, prepare_tokenizer, prepared_folder
from trainer.data.samples import Samples
from trainer.data.shards import MANIFEST, open_prepared, write_whole
from trainer.data.show import format_show, show
from trainer.data.tokenizer import Tokenizer
from trainer.utils.errors import UserError

__all__ = ["card", "format_card", "format_show", "format_tokenizer", "show", "tokenizer", "verify"]

SPECIMEN = "def mean(values):\n\treturn sum(values) / len(values)  # 3.14, größer, 漢字"


def card(config: Config, progress: Progress | None = None) -> dict[str, Any]:
    """The data card of a config's corpus, which is prepared if need be; `format_card` makes it Markdown.

    A mixture's card also says what the run reads of every source, stage by stage.
    """
    prepared = prepare(config, progress)
    found = describe(config, prepared)
    if config.data.mixes:
        usage = Samples(prepared, config, "train").usage(config.curriculum.samples(run_steps(config)))
        found["mixture"] = [asdict(part) for part in usage]
    return found


def corpus_of(config: Config) -> Path:
    """The folder of a config's prepared corpus. Raises UserError where there is none; nothing is prepared."""
    if config.task.kind is not None:
        raise UserError(f"data verify: task.kind={config.task.kind} reads records, of which no shards are prepared")
    folder = prepared_folder(config)
    if folder is None:
        where = cache_root(config)
        raise UserError(
            f"data verify: this corpus is not prepared in {where}; isoflop data with the same words does it"
        )
    return folder


def corpora_in(cache: Path) -> list[Path]:
    """The folders of all prepared corpora of a cache. Raises UserError where there is none."""
    found = sorted(path.parent for path in cache.glob(f"tokens/*/{MANIFEST}") if path.parent.suffix != ".partial")
    if not found:
        raise UserError(
            f"data verify: no prepared corpus in {cache}; isoflop data prepares one, run.cache names a cache"
        )
    return found


def verify(folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Hash all files of a prepared corpus. damaged: a line for each that is not as it was made, with the way out.

    fingerprint, files and bytes are null where the manifest cannot be read or a file has another size."""
    found: dict[str, Any] = {"folder": str(folder), "fingerprint": None, "files": None, "bytes": None, "damaged": []}
    try:
        prepared = open_prepared(folder)
    except UserError as error:
        return {**found, "damaged": str(error).splitlines()}
    entries = prepared.files()
    return {
        "folder": str(folder),
        "fingerprint": prepared.fingerprint,
        "files": len(entries),
        "bytes": sum(entry["bytes"] for entry in entries),
        "damaged": [damage.text for damage in prepared.damages(progress=progress)],
    }


def tokenizer(config: Config, out: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Train (or open) a config's tokenizer, copy it to `out` if given, and say what it is; nothing is encoded."""
    if out is not None and not out.parent.is_dir():
        raise UserError(f"out: there is no folder {out.parent}")
    if out is not None and out.is_dir():
        raise UserError(f"out: {out} is a folder; name a file, e.g. out={out / 'tokenizer.model'}")
    file = prepare_tokenizer(config, progress)
    opened = Tokenizer(file, config.tokenizer.special_ids)
    if out is not None:
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
