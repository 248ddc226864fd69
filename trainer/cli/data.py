"""Verbs about text: corpora and tokenizers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from trainer.cli.arguments import split_flags, wants_help, whole_numbers
from trainer.utils.errors import UserError, nearest
from trainer.utils.home import expanded

PARTS = ("show", "card", "verify", "clean")
HELP = """\
isoflop data [show|card|verify|clean] [key=value ...] [--json]

  data                        prepare tokenizer and token shards, and say what they hold
  data show step=0 samples=2  what a step reads; of a run: data show <run folder> step=0
  data card                   the data card
  data verify                 hash the prepared files of these words; of a run: data verify <run folder>; of a folder
                              of shards: data verify <folder>; of the whole cache: data verify --all
                              exit code 0: all are as they were made, 1: some are damaged, a line for each
  data clean                  list the cache: kind, size, last use, corpus; it deletes what is named: an entry
                              (tokens/0123456789abcdef), older=30d (s, m, h, d), or all=true; what a run uses stays
"""


def data(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json", "--all")
    if wants_help(flags, HELP, words):
        return 0
    what = next((word for word in words if word in PARTS), None)
    if what is None and (odd := [word for word in words if word.isalpha()]):
        raise UserError(f"data: {odd[0]}: there is {', '.join(PARTS)}{nearest(odd[0], PARTS)}")
    if "--all" in flags and what != "verify":
        raise UserError("--all: data verify has that option")
    if what == "verify":
        at = words.index("verify")
        return _verify(words[:at] + words[at + 1 :], every="--all" in flags, as_json="--json" in flags)
    if what == "clean":
        from trainer.cli.clean import clean

        return clean([word for word in words if word != what], as_json="--json" in flags)
    if what == "show":
        return _show([word for word in words if word != what], "--json" in flags)
    if what == "card":
        return _card([word for word in words if word != what], "--json" in flags)
    from trainer.compose import compose
    from trainer.data import prepare, said_unknown, unknown_share
    from trainer.meter import costs
    from trainer.utils.progress import progress_bar

    config = compose(words)
    costs.into_root(config)
    with progress_bar() as progress:
        prepared = prepare(config, progress)
        tasks = _task_lines(config, prepared) if config.data.tasks else []
    unknown = unknown_share(prepared, "held_out")
    facts = {
        "folder": str(prepared.folder),
        "fingerprint": prepared.fingerprint,
        "vocabulary": prepared.vocabulary,
        **{name: vars(getattr(prepared, name)) for name in ("train", "held_out")},
        "unknown_share": unknown,
        "notes": [*tasks, *prepared.report.get("notes", [])],
    }
    if "--json" in flags:
        print(json.dumps(facts, indent=1, default=str))
    else:
        for name in ("train", "held_out"):
            split = getattr(prepared, name)
            print(f"{name:<9} {split.documents:>9,} documents  {split.bytes:>13,} bytes  {split.tokens:>13,} tokens")
        print(f"baseline  {prepared.held_out.unigram_bits_per_byte:.3f} bits/byte (unigram entropy, held-out tokens)")
        if line := said_unknown(unknown, "held-out"):
            print(f"unknown   {line}")
        for note in facts["notes"]:
            print(f"note      {note}")
        print(f"shards    {prepared.folder}")
    return 0


def _task_lines(config: Any, prepared: Any) -> list[str]:
    """A line for the text and for each labelled task beside it. Raises UserError for what is wrong with its records."""
    from trainer.tasks.labelled import check_mixed, open_mixed

    return check_mixed(open_mixed(config, prepared), config)


def _show(words: list[str], as_json: bool) -> int:
    from trainer.compose import change, compose
    from trainer.data.show import format_show
    from trainer.meter import costs
    from trainer.run_folder import RunFolder
    from trainer.tasks.show import show
    from trainer.utils.progress import progress_bar

    words, numbers = whole_numbers("data show", words, step=0, samples=2)
    runs = [word for word in words if (Path(word) / "config.yaml").is_file()]
    rest = [word for word in words if word not in runs]
    config = change(RunFolder(Path(runs[0])).load_config(), rest) if runs else compose(words)
    costs.into_root(config)
    with progress_bar() as progress:
        shown = show(config, numbers["step"], samples=numbers["samples"], progress=progress)
    print(json.dumps(shown, indent=1, ensure_ascii=False) if as_json else format_show(shown))
    return 0


def _card(words: list[str], as_json: bool) -> int:
    from trainer.compose import compose
    from trainer.data.card import format_card
    from trainer.meter import costs
    from trainer.tasks.show import card
    from trainer.utils.progress import progress_bar

    config = compose(words)
    costs.into_root(config)
    with progress_bar() as progress:
        found = card(config, progress)
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else format_card(found))
    return 0


def _verify(words: list[str], *, every: bool, as_json: bool) -> int:
    from trainer.data.summary import verify
    from trainer.utils.progress import progress_bar

    folders = _folders_to_verify(words, every=every)
    with progress_bar() as progress:
        found = [verify(folder, progress) for folder in folders]
    if as_json:
        print(json.dumps(found, indent=1))
    for one in found:
        for line in one["damaged"]:
            print(f"isoflop: {line}", file=sys.stderr)
        if not as_json and not one["damaged"]:
            print(f"whole {one['folder']}  {one['files']} files, {one['bytes']:,} bytes")
    return 1 if any(one["damaged"] for one in found) else 0


def _folders_to_verify(words: list[str], *, every: bool) -> list[Path]:
    """The prepared corpora that the words mean: one of overrides, of a run or of a folder; or all of the cache."""
    from trainer.compose import compose
    from trainer.config.host import cache_root
    from trainer.data.shards import MANIFEST
    from trainer.data.summary import corpora_in, corpus_of
    from trainer.run_folder import RunFolder

    names = [word for word in words if "=" not in word or Path(word).is_dir()]
    if not names:
        config = compose(words)
        return corpora_in(cache_root(config)) if every else [corpus_of(config)]
    if every or len(words) > 1:
        raise UserError(f"data verify: give one folder, or overrides, or --all; got {' '.join(words)}")
    folder = expanded(names[0])
    if not folder.is_dir():
        raise UserError(f"data verify: {names[0]}: no such folder")
    if (folder / MANIFEST).is_file():
        return [folder]
    run = RunFolder(folder)
    if not run.config.is_file():
        raise UserError(f"data verify: {names[0]} holds neither prepared data ({MANIFEST}) nor a run (config.yaml)")
    return [corpus_of(run.load_config())]


def tokenizer(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop tokenizer [out=file.model] [key=value ...] [--json]\n", words):
        return 0
    from trainer.compose import compose
    from trainer.data.summary import format_tokenizer
    from trainer.data.summary import tokenizer as train_tokenizer
    from trainer.meter import costs
    from trainer.utils.progress import progress_bar

    out = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    config = compose([word for word in words if not word.startswith("out=")])
    costs.into_root(config)
    with progress_bar() as progress:
        facts = train_tokenizer(config, Path(out[-1]) if out else None, progress)
    print(json.dumps(facts, indent=1, ensure_ascii=False) if "--json" in flags else format_tokenizer(facts))
    return 0
