"""The data card: what a corpus is, as far as it was stated or counted (Gebru et al. 2021; Bender and Friedman 2018).

Nothing is guessed. What is not stated is null, listed and counted.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from trainer.config import Config
from trainer.data.shards import SPLITS, Prepared, TokenStream, unknown_share
from trainer.data.tokenizer import Tokenizer

# Questions of datasheets and data statements that no program can answer.
QUESTIONS = (
    *("curation rationale", "who collected the text", "when it was collected", "language variety"),
    *("who wrote it", "personal or sensitive content", "consent"),
)
READ_TOKENS = 1 << 18  # of each source, to count words in


def card(config: Config, prepared: Prepared) -> dict[str, Any]:
    """The card as plain data. prepared: what `prepare(config)` gave."""
    tokenizer = Tokenizer(prepared.tokenizer_file, config.tokenizer.special_ids)
    sources = [
        _source(config, prepared, tokenizer, origin) for origin in prepared.manifest["splits"]["train"]["origins"]
    ]
    total = sum(source["train"]["tokens"] for source in sources)
    for source in sources:
        source["share_of_tokens"] = source["train"]["tokens"] / total
    report = prepared.report
    found = {
        "corpus": config.data.name,
        "fingerprint": prepared.fingerprint,
        "prepared_on": report.get("date"),
        "prepared_with": f"Python {platform.python_version()}",
        "file_bytes": report.get("file_bytes"),
        "splits": {split: vars(getattr(prepared, split)) for split in SPLITS},
        "held_out": f"documents whose sha256 falls below {config.data.held_out}",
        "cleaning": {
            "unicode_form": config.data.normalize,
            "deduplicate": config.data.deduplicate,
            "shortest": config.data.shortest,
            "longest": config.data.longest,
            "dropped": report.get("dropped"),
        },
        "document_lengths": _lengths(prepared),
        "tokenizer": {
            "kind": "imported" if config.tokenizer.path else config.tokenizer.name,
            "vocabulary": prepared.vocabulary,
            "sha256": tokenizer.sha256,
            "unknown_share": {split: unknown_share(prepared, split) for split in SPLITS},
        },
        "notes": report.get("notes", []),
        **({"pairs": report["pairs"]} if "pairs" in report else {}),
        "sources": sources,
        "questions": dict.fromkeys(QUESTIONS),
        "files": [{"file": entry["file"], "sha256": entry["sha256"]} for entry in prepared.manifest["files"]],
    }
    return {**found, "not_stated": _not_stated(found)}


def _source(config: Config, prepared: Prepared, tokenizer: Tokenizer, origin: str) -> dict[str, Any]:
    given = config.data.sources.get(origin)
    sizes = {split: prepared.manifest["splits"][split]["origins"].get(origin) for split in SPLITS}
    none = {"documents": 0, "tokens": 0, "bytes": 0}
    if config.data.name == "stdlib":
        stated: tuple[str | None, str | None] = "Python and English", "PSF License Version 2 (Python's own)"
    else:
        languages = " and ".join(config.data.pairs.get(origin, ())) or None
        stated = (given.language, given.licence) if given else (languages, None)
    return {
        "name": origin,
        "paths": list(given.path if given else _places(config, origin)),
        "files": prepared.report.get("files", {}).get(origin),
        "language": stated[0],
        "licence": stated[1],
        "weight": given.weight if given else None,
        "most_epochs": given.epochs if given else None,
        **{split: sizes[split] or none for split in SPLITS},
        **_fertility(prepared, tokenizer, origin),
    }


def _places(config: Config, origin: str) -> list[str]:
    """Of a pair of languages, or of the whole text."""
    languages = config.data.pairs.get(origin)
    if languages is None:
        return list(config.data.path)
    return list(dict.fromkeys(place for one in languages for place in config.data.parallel[one]))


def _fertility(prepared: Prepared, tokenizer: Tokenizer, origin: str) -> dict[str, float]:
    """Tokens per word, words being what white space separates, and bytes per token."""
    sizes = prepared.manifest["splits"]["train"]["origins"][origin]
    stream = TokenStream(prepared, "train", origin)
    tokens = np.empty((1, min(len(stream), READ_TOKENS)), np.int64)
    stream.read(np.array([0]), tokens)
    words = len(tokenizer.decode(tokens[0]).split())
    return {"tokens_per_word": tokens.size / max(1, words), "bytes_per_token": sizes["bytes"] / sizes["tokens"]}


def _lengths(prepared: Prepared) -> list[dict[str, int]]:
    """Documents by length, in bins that double."""
    lengths: list[np.ndarray] = []
    for split in SPLITS:
        stream = TokenStream(prepared, split)
        lengths.append(np.diff(stream.starts, append=len(stream)))
    exponent = np.frexp(np.concatenate(lengths) - 0.5)[1]
    counts = np.bincount(exponent)
    return [
        {"from_tokens": 2 ** (k - 1) + 1 if k else 1, "to_tokens": 2**k, "documents": int(count)}
        for k, count in enumerate(counts)
        if count
    ]


def _not_stated(found: dict[str, Any]) -> list[str]:
    sources = [
        f"{what} of {source['name']}"
        for source in found["sources"]
        for what in ("language", "licence")
        if not source[what]
    ]
    return sources + [question for question, answer in found["questions"].items() if answer is None]


def format_card(found: dict[str, Any]) -> str:
    """The card as Markdown."""
    splits, cleaning = found["splits"], found["cleaning"]
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in (cleaning["dropped"] or {}).items()) or "not stated"
    lines = [
        f"# Data card: {found['corpus']}",
        "",
        f"Prepared on {_said(found['prepared_on'])} with {found['prepared_with']}; "
        f"fingerprint `{found['fingerprint']}`.",
        "",
        "## Size",
        *_table(
            ("split", "documents", "tokens", "bytes", "unigram bits/byte"),
            [(name, s["documents"], s["tokens"], s["bytes"], s["unigram_bits_per_byte"]) for name, s in splits.items()],
        ),
        "",
        f"Held out: {found['held_out']}.",
        "",
        "## Sources",
        *_sources(found["sources"]),
        "",
        *_tasks(found.get("tasks", []), found.get("bound", 0.0)),
        *_pairs(found.get("pairs", {})),
        *_mixture(found.get("mixture", [])),
        "## Cleaning",
        f"Unicode form {cleaning['unicode_form']}; duplicates {'removed' if cleaning['deduplicate'] else 'kept'}; "
        f"documents of {cleaning['shortest']} to {_said(cleaning['longest'] or 'any number of')} characters.",
        f"Left out: {dropped}.",
        "",
        "## Length of documents, of both splits",
        *_table(
            ("tokens", "documents"),
            [(f"{b['from_tokens']} to {b['to_tokens']}", b["documents"]) for b in found["document_lengths"]],
        ),
        "",
        "## Tokenizer",
        "{kind}, {vocabulary:,} pieces, sha256 `{sha256}`.".format(**found["tokenizer"]),
        _unknown(found["tokenizer"]["unknown_share"]),
        "",
        *(
            ["## Not read, or not as it may be meant", *(f"- {note}" for note in found["notes"]), ""]
            * bool(found["notes"])
        ),
        "## Files",
        *(f"- `{entry['file']}` `{entry['sha256']}`" for entry in found["files"]),
        "",
        f"## Not stated ({len(found['not_stated'])})",
        *(f"- {what}" for what in found["not_stated"]),
    ]
    return "\n".join(lines) + "\n"


def _unknown(shares: dict[str, float | None]) -> str:
    said = [f"{share:.4%} of {split}" for split, share in shares.items() if share is not None]
    return f"Tokens that are `<unk>`: {', '.join(said)}." if said else "It has no `<unk>`."


def _sources(sources: list[dict[str, Any]]) -> list[str]:
    """A row for each text: what is known of it, and its share."""
    described = ("source", "language", "licence", "files", "train documents", "train tokens")
    shared = ("share", "weight", "tokens/word", "bytes/token")
    rows = []
    for one in sources:
        size = (one["files"], one["train"]["documents"], one["train"]["tokens"])
        share = (f"{one['share_of_tokens']:.1%}", one["weight"], one["tokens_per_word"], one["bytes_per_token"])
        rows.append((one["name"], one["language"], one["licence"], *size, *share))
    return _table((*described, *shared), rows)


def _tasks(tasks: list[dict[str, Any]], bound: float) -> list[str]:
    """A row for the text and for each labelled task beside it. bound: that of `trainer.tasks.interleaving`."""
    head = ("task", "from", "examples", "samples an epoch", "held out", "share of examples", "of samples", "notes")
    rows = []
    for t in tasks:
        held_out = "-" if t["held_out"] is None else t["held_out"]
        notes = [*t["notes"], *([f"{t['cut']:,} cut to fit"] if t["cut"] else [])]
        counts, shares = (t["records"], t["rows"], held_out), (f"{t['rate']:.4f}", f"{t['share']:.4f}")
        rows.append((t["name"], ", ".join(t["from"]), *counts, *shares, "; ".join(notes) or "-"))
    exact = f"After any number of samples each has its share of them to within {bound:.3g} samples."
    return ["## Labelled tasks", *_table(head, rows), "", exact, ""] if tasks else []


def _mixture(usage: list[dict[str, Any]]) -> list[str]:
    """What a run reads of the sources, if the card is that of a run."""
    rows = [(r["stage"], r["source"], r["samples"], r["tokens"], f"{r['epochs']:.3g}") for r in usage]
    head = ("stage", "source", "samples", "tokens", "epochs")
    return ["## Mixture that the run reads", *_table(head, rows), ""] if rows else []


def _pairs(pairs: dict[str, Any]) -> list[str]:
    """What became of a parallel text, if the corpus is one."""
    head = ("languages", "pairs", "pages or files", "left out: one side empty", "left out: unequal pages", "of these")
    rows = [
        (name, one["paired"], one["pages"], one["blank"], one["unequal"], ", ".join(one["examples"]) or "none")
        for name, one in pairs.items()
    ]
    return ["## Pairs of a parallel text", *_table(head, rows), ""] if pairs else []


def _said(value: Any) -> str:
    if value is None:
        return "not stated"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    body = ["| " + " | ".join(_said(value).replace("|", "\\|") for value in row) + " |" for row in rows]
    return ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]
