"""Verbs between our runs and Hugging Face's folders."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import folder_and_options, split_flags, wants_help
from trainer.utils.errors import UserError


def import_(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    usage = (
        "isoflop import <folder of a Hugging Face checkpoint> to=<run folder> [generator=<folder>] [--json]\n"
        "isoflop import <a tokenizer, file or folder without weights> to=<folder for tokenizer.path> [--json]\n"
    )
    if wants_help(flags, usage):
        return 0
    from trainer.hub.runs import holds_weights, import_run, import_tokenizer

    source, options = folder_and_options("import", words, ("to", "generator"))
    if source.exists() and not (source.is_dir() and holds_weights(source)):
        print_facts(import_tokenizer(source, Path(options.get("to") or f"tokenizers/{source.resolve().name}")), flags)
        return 0
    generator = Path(options["generator"]) if "generator" in options else None
    print_facts(
        import_run(source, Path(options.get("to") or f"runs/imported/{source.resolve().name}"), generator), flags
    )
    return 0


def export(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop export <run> to=<new folder> [tokenizer=yes|no] [--json]\n"):
        return 0
    from trainer.hub import export_run
    from trainer.run_folder import find_run

    run, options = folder_and_options("export", words, ("to", "tokenizer"))
    if options.get("tokenizer", "yes") not in ("yes", "no"):
        raise UserError(f"export: tokenizer={options['tokenizer']} given, yes or no wanted")
    folder = find_run(str(run), "runs").path
    target = Path(options.get("to") or f"{folder.name}-hf")
    print_facts(export_run(folder, target, tokenizer=options.get("tokenizer", "yes") == "yes"), flags)
    return 0


def print_facts(facts: dict[str, object], flags: set[str]) -> None:
    if "--json" in flags:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(f"{name:<11} {value if value is not None else 'none'}" for name, value in facts.items()))
