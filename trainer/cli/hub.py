"""Verbs between our runs and Hugging Face's folders."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.cli.arguments import folder_and_options, split_flags, wants_help
from trainer.utils.errors import UserError
from trainer.utils.which_weights import NEWEST, split

IMPORT = """\
isoflop import <folder of a Hugging Face checkpoint> [to=<run folder>] [generator=<folder>] [--check] [--json]
isoflop import hub:<owner>/<name>[@revision] [to=<run folder>] [--check] [--json]
isoflop import <a tokenizer, file or folder without weights> to=<folder for tokenizer.path> [--json]

  generator=<folder>  of an ELECTRA discriminator; default: the folder `generator` inside, or a new one
  --check             compare with transformers (extra: hub); exit code 1 above 2e-5 of the logits' spread
"""
EXPORT = """\
isoflop export <run>[@<step>][:<average>] to=<new folder> [tokenizer=yes|no] [--json]

  license=<name> language=<codes> base_model=<names> datasets=<names>
      what the card, README.md, says beside what the run knows, as the hub spells it: license=apache-2.0 language=en,de
"""


def import_(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--check", "--json")
    if wants_help(flags, IMPORT):
        return 0
    from trainer.hub.download import HUB, download
    from trainer.hub.runs import holds_weights, import_run, import_tokenizer

    names = [word for word in words if word.startswith(HUB)]
    if names:
        name, folder = names[0].removeprefix(HUB).partition("@")[0], str(download(names[0]))
        words = [folder if word == names[0] else word for word in words]
    source, options = folder_and_options("import", words, ("to", "generator"))
    if source.is_symlink() and not source.exists():
        raise UserError(f"import: {source}: a link that leads nowhere")
    if source.exists() and not (source.is_dir() and holds_weights(source)):
        print_facts(import_tokenizer(source, Path(options.get("to") or f"tokenizers/{source.resolve().name}")), flags)
        return 0
    generator = Path(options["generator"]) if "generator" in options else None
    usual = name.rpartition("/")[2] if names else source.resolve().name
    target = Path(options.get("to") or f"runs/imported/{usual}")
    facts = import_run(source, target, generator, check="--check" in flags)
    print_facts(facts, flags)
    return 0 if facts.get("exact", True) else 1


def export(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, EXPORT):
        return 0
    from trainer.hub.stated import OPTIONS, Stated
    from trainer.run_folder import find_run

    which = NEWEST
    if words and "=" not in words[0]:
        name, which = split(words[0])
        words = [name, *words[1:]]
    what = "run, e.g. isoflop export runs/<experiment>/<id>"
    run, options = folder_and_options("export", words, ("to", "tokenizer", *OPTIONS), what)
    stated = Stated.of(options)
    if options.get("tokenizer", "yes") not in ("yes", "no"):
        raise UserError(f"export: tokenizer={options['tokenizer']} given, yes or no wanted")
    folder = find_run(str(run), "runs").path
    from trainer.hub import export_run  # not above: it takes seconds, and the name may be wrong

    target = Path(options.get("to") or f"{folder.name}-hf")
    print_facts(
        export_run(folder, target, tokenizer=options.get("tokenizer", "yes") == "yes", stated=stated, which=which),
        flags,
    )
    return 0


def print_facts(facts: dict[str, object], flags: set[str]) -> None:
    if "--json" in flags:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(f"{name:<11} {value if value is not None else 'none'}" for name, value in facts.items()))
