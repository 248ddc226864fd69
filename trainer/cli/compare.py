"""`isoflop compare`: runs, or laws, beside each other."""

from __future__ import annotations

import json
import os
from pathlib import Path

from trainer.cli.arguments import number_of, one_of, split_flags
from trainer.utils.errors import UserError, nearest

COMPARE_HELP = """\
isoflop compare <run or folder of runs> ... [axis=tokens|flop|kwh|gco2e|seconds] [out=<folder>] [--json]
isoflop compare <run or folder of runs> ... next=3 [within=2kWh]        further seeds that decide most for their price
isoflop compare <table.csv or law.json> <another> ...              [name=value ...] [--json]
isoflop compare <root of runs> <another> ... by=law                [name=value ...] [--json]

Runs that differ in the seed alone are one group. Prints the settings that differ, scores with intervals, what was
spent, and by Welch's test whether the groups differ from the first by more than seed noise. Losses of other data,
tokenizers or objectives are another scale: they have a panel of their own, and no verdict.

Of two laws it prints an efficiency factor: how many times the FLOP (kWh, g CO2e, money, where they are stated) of the
first the second needs for the same loss, with a 95% interval, and whether one factor is enough. Tables are as for
isoflop fit. Options of laws:
  by=law                 each name is a root of runs that one law goes through
  parameters=total       what N counts for run folders: total, active or non_embedding
  column.<name>=<title>  the column of a table that holds parameters, tokens, flop, loss, kwh, gco2e or money
  mixed=true             compare losses of different data, tokenizers or objectives all the same
  replicates=400         bootstrap replicates
  seed=0                 of the bootstrap
  out=<folder>           where compare.html, compare.json and the picture go
"""
LAW_OPTIONS = ("parameters", "mixed", "replicates", "seed")


def compare(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if flags & {"--help", "-h"}:
        print(COMPARE_HELP)
        return 0
    names = [word for word in words if "=" not in word or Path(word).exists()]
    columns = {
        word[7:].split("=")[0]: word.split("=", 1)[1] for word in words if word.startswith("column.") and "=" in word
    }
    options = dict(
        word.split("=", 1) for word in words if word not in names and not (columns and word.startswith("column."))
    )
    known = ("axis", "by", "out", "next", "within", *LAW_OPTIONS)
    for name in sorted(set(options) - set(known)):
        raise UserError(f"compare: {name}: no such option{nearest(name, known)}; there is {', '.join(known)}")
    from trainer.scaling.efficiency import is_law

    if one_of("compare", options, "by", ("runs", "law")) == "law" or any(map(is_law, names)):
        return _compare_laws(names, options, columns, "--json" in flags)
    if of_laws := [*(name for name in LAW_OPTIONS if name in options), *(f"column.{name}" for name in columns)]:
        raise UserError(f"compare: {of_laws[0]}: only laws read it; add by=law, or name tables")
    return _compare_runs(names, options, "--json" in flags)


def _compare_runs(names: list[str], options: dict[str, str], as_json: bool) -> int:
    from trainer.scaling import compare as comparing

    axis = one_of("compare", options, "axis", tuple(comparing.AXES))
    groups = comparing.read_groups(names)
    found = comparing.compare(groups, axis)
    parents = [str(run.run.parent.resolve()) for group in groups for run in group.runs]
    folder = Path(options.get("out") or Path(os.path.commonpath(parents)) / "comparison")
    facts, blocks = comparing.write_comparison(found, axis, folder), [comparing.format_comparison(found)]
    if "next" in options or "within" in options:
        more = comparing.next_seeds(found, number_of("compare", options, "next", 3, 1), options.get("within", ""))
        facts |= {"next": comparing.seeds_json(more)}
        blocks.append("\n".join(comparing.format_seeds(more)))
    print(json.dumps(facts, indent=1) if as_json else "\n\n".join([*blocks, f"page  {folder}/compare.html"]))
    return 0


def _compare_laws(names: list[str], options: dict[str, str], columns: dict[str, str], as_json: bool) -> int:
    from trainer.scaling import efficiency
    from trainer.scaling.fit import COUNTS

    if "axis" in options:
        raise UserError("compare: axis: laws are compared in every amount that is stated; leave it out")
    count = one_of("compare", options, "parameters", tuple(COUNTS))
    mixed = one_of("compare", options, "mixed", ("false", "true")) == "true"
    replicates, seed = number_of("compare", options, "replicates", 400, 20), number_of("compare", options, "seed", 0, 0)
    laws = efficiency.read_laws(names, count=count, columns=columns, mixed=mixed)
    found = efficiency.compare_laws(laws, replicates=replicates, seed=seed)
    folder = Path(options.get("out") or efficiency.default_folder(names))
    facts = efficiency.write_factors(found, folder)
    blocks = "\n\n".join(map(efficiency.format_efficiency, found))
    print(json.dumps(facts, indent=1) if as_json else f"{blocks}\n\npage        {folder}/compare.html")
    return 0
