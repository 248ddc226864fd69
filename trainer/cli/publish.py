"""`isoflop publish`: what a paper prints of its runs."""

from __future__ import annotations

import json

from trainer.cli.arguments import folder_and_options, one_of, split_flags, wants_help
from trainer.utils.errors import UserError
from trainer.utils.home import expanded

HELP = """\
isoflop publish <root of runs> to=<folder> [name=value ...] [--json]

Writes a new folder: LaTeX tables of the price tag, the ledger, all runs, a law, grids and comparisons, a paragraph on
cost, the fields that forms of documentation ask for (EU, SPDX, SCI for AI, the hub's card), a page, a citation, and
the files of the runs that all of it is derived from. What nobody stated is listed. isoflop verify checks it.

  to=<folder>                where; it must not be there yet
  run=<experiment>/<id>      the run that the forms are about; default: the finished one of most training compute
  name="Title"               of the page and the citation, and the model's name in the forms
  authors="A. One; B. Two"   of the citation
  raw=copy                   reference: only the hashes of the runs' files, which hold names of hosts and folders
"""
OPTIONS = ("to", "run", "name", "authors", "raw")


def publish(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, HELP, keys=False):
        return 0
    root, options = folder_and_options("publish", words, OPTIONS)
    if not options.get("to"):
        raise UserError("publish: to: the name of a new folder is missing, e.g. to=published")
    copied = one_of("publish", options, "raw", ("copy", "reference")) == "copy"
    authors = [name.strip() for name in options.get("authors", "").split(";") if name.strip()]
    settings = {
        **{key: options[key] for key in ("run", "name") if options.get(key)},
        **({"authors": authors} if authors else {}),
    }
    from trainer.publish import publish as published

    to = expanded(options["to"])
    manifest = published(root, to, settings, copied=copied)
    if "--json" in flags:
        facts = {"folder": str(to), "claim": manifest.claim, "files": sorted(manifest.derived)}
        print(json.dumps(facts | {"sources": len(manifest.sources)}, indent=1))
        return 0
    print(f"page     {to / 'index.html'}\npaper    {to / 'paper.tex'}\nforms    {to / 'published.json'}")
    print(
        f"sources  {len(manifest.sources)} files, {'copied into ' + str(to / 'raw') if copied else 'by their hashes'}"
    )
    print(f"claim    {manifest.claim}")
    return 0
