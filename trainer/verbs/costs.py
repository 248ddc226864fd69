"""Verbs about cost: of many runs, of anybody's work, of this machine's time."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.errors import UserError
from trainer.verbs.words import split_flags, wants_help


def ledger(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop ledger [root] [--json]\n"):
        return 0
    from trainer.report.ledger import format_ledger, ledger_json
    from trainer.report.ledger import ledger as read

    if len(words) > 1:
        raise UserError(f"ledger: name one root of runs, got {' '.join(words)}")
    root = Path(words[0] if words else "runs")
    if not (root / "ledger.jsonl").is_file():
        raise UserError(f"{root}: no ledger.jsonl here; name the root of some runs")
    accounts = read(root)
    print(json.dumps(ledger_json(accounts), indent=1) if "--json" in flags else format_ledger(accounts))
    return 0


def price(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    usage = "isoflop price name=number ... [machine=...] [site=...] [--json]\n"
    if wants_help(flags, usage):
        return 0
    from trainer.books import format_price_tag, price_json
    from trainer.books import price as price_of
    from trainer.compose import compose

    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise UserError(f"price: {wrong[0]}: write name=number")
    config = compose([word for word in words if word.startswith(("machine=", "site=", "machine.", "site."))])
    given = dict(word.split("=", 1) for word in words if not word.startswith(("machine", "site")))
    tag = price_of(machine=config.machine, site=config.site, **given)
    print(json.dumps(price_json(tag), indent=1) if "--json" in flags else format_price_tag(tag))
    return 0


def calibrate(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, "isoflop calibrate [key=value ...] [--json]\n"):
        return 0
    from trainer.compose import compose
    from trainer.meter.calibration import calibrate as measure
    from trainer.progress import progress_bar

    with progress_bar() as progress:
        found = measure(compose(words), progress)
    if "--json" in flags:
        print(json.dumps(found.to_json(), indent=1))
    else:
        print(f"{found.machine}, {found.precision}, {found.threads} threads: fitted within {found.error:.0%}")
        for step in found.steps:
            shape = f"width {step['width']:>4} depth {step['depth']} sequence {step['sequence_length']:>5}"
            print(f"  {shape}   measured {step['measured_seconds']:.3f} s   fitted {step['fitted_seconds']:.3f} s")
    return 0
