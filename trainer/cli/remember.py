"""`isoflop config`: what this user's runs have in common, remembered once."""

from __future__ import annotations

import json

from trainer.cli.arguments import split_flags, wants_help

USAGE = """isoflop config [key=value ...] [--json]

Without words: what is remembered, and in which file. With words: remembers machinery, e.g.

  isoflop config site=de-2023 machine=h100-sxm site.pue=1.2
  isoflop config site.price_per_device_hour=2 site.currency=USD site.price_date=2026-11
  isoflop config site=null                forgets the site and all its keys

They hold for every new run, sweep and price whose own words and files say nothing else, and are frozen into a run's
config.yaml as if they had been given. Science and numerics are never remembered. --info says what counts, and whence.
"""


def config(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, USAGE, keys=False):
        return 0
    from trainer.compose.remembered import remembered, remembered_file, remembered_words
    from trainer.compose.remembering import remember

    if words:
        remember(words)
    else:
        remembered()  # says what this version does not take
    kept = remembered_words()
    if "--json" in flags:
        print(json.dumps({"file": str(remembered_file()), "remembered": kept}, indent=1))
    else:
        print(
            "\n".join([*kept, f"({remembered_file()})"] if kept else [f"nothing is remembered ({remembered_file()})"])
        )
    return 0
