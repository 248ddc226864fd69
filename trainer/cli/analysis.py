"""Verbs that draw conclusions from many runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trainer.cli.arguments import folder_and_options, split_flags, whole_numbers
from trainer.utils.bounded import whole_number
from trainer.utils.errors import UserError, nearest

FIT_HELP = """\
isoflop fit <root of runs | table.csv> [name=value ...] [--json]

Fits Chinchilla's three approaches and every form of a law that the runs allow, chooses the form that predicts held-out
larger runs best, and writes fit.json, law.json, fit.html and pictures. A table needs the columns parameters, tokens (or
flop) and loss; kwh, gco2e, money, name, status ... are used if there.

  budget=1e21,25kWh      the best model for these budgets: FLOPs, or with a unit (Wh, kWh, g, kg, t of CO2e, currency)
  predict=7b@4t,1e9@2e10 the loss of runs of these parameters and tokens, with an interval calibrated on held-out runs;
                         what else a law reads stands behind a colon: 7b@4t:unique_tokens=1t
  form=auto              the forms to choose from: chinchilla, or chinchilla,farseer
  law=<law.json>         a stored law in place of a fit: how it predicts these runs, and, also without runs, predict=
  parameters=total       what N counts for run folders: total, active or non_embedding
  column.<name>=<title>  the column of a table that holds parameters, tokens, flop, loss, kwh, gco2e or money
  optimal=true           the table's rows are compute-optimal models: only the exponents are fitted, no loss is needed
  where=<column>=<value> only these rows of a table, or runs by a key: where=source=llama_3,outlier=True|False
  mixed=true             fit runs of different data, tokenizers or objectives together
  replicates=400         bootstrap replicates
  seed=0                 of the bootstrap
  out=<folder>           where to write; default <root>/fit, or <table>-fit beside the table
"""


def fit(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if flags & {"--help", "-h"}:
        print(FIT_HELP)
        return 0
    from trainer.scaling import fit as fitting
    from trainer.utils.progress import progress_bar

    columns = {
        word[7:].split("=")[0]: word.split("=", 1)[1] for word in words if word.startswith("column.") and "=" in word
    }
    words = [word for word in words if not (word.startswith("column.") and "=" in word)]
    if any(word.startswith("law=") for word in words):
        return _by_stored_law(words, columns, "--json" in flags)
    known = ("budget", "predict", "form", "parameters", "optimal", "mixed", "where", "replicates", "seed", "out")
    source, options = folder_and_options("fit", words, known)
    mixed, optimal = (_choice("fit", options, name, ("false", "true")) == "true" for name in ("mixed", "optimal"))
    count = _choice("fit", options, "parameters", tuple(fitting.COUNTS))
    replicates, seed = _number("fit", options, "replicates", 400, 20), _number("fit", options, "seed", 0, 0)
    if optimal:
        table = fitting.read_csv(source, columns, optimal=True)
        print(json.dumps(fitting.fit_optima(table), indent=1) if "--json" in flags else fitting.format_optima(table))
        return 0
    points = fitting.read_points(options["predict"]) if "predict" in options else []
    forms = fitting.read_forms(options.get("form", "auto"))
    table = fitting.read_table(source, count=count, columns=columns, mixed=mixed, where=options.get("where", ""))
    budgets = [text for text in options.get("budget", "").split(",") if text]
    with progress_bar() as progress:
        found = fitting.fit(
            table, budgets=budgets, replicates=replicates, seed=seed, progress=progress, forms=forms, points=points
        )
    default = source / "fit" if source.is_dir() else source.with_name(f"{source.stem}-fit")
    folder = Path(options.get("out") or default)
    facts = fitting.write_fit(found, folder, source.name)
    print(
        json.dumps(facts, indent=1)
        if "--json" in flags
        else f"{fitting.format_findings(found)}\n\npage      {folder}/fit.html\nlaw       {folder}/law.json"
    )
    return 0


def _by_stored_law(words: list[str], columns: dict[str, str], as_json: bool) -> int:
    """`fit law=...`: predictions of a stored law, and how it does on the runs that are named."""
    from trainer.scaling import fit as fitting

    options = dict(word.split("=", 1) for word in words if "=" in word)
    known = ("law", "predict", "parameters", "mixed", "where")
    for name in options:
        if name not in known:
            raise UserError(f"fit: {name}: not together with law=, which fits nothing; there is {', '.join(known)}")
    names = [word for word in words if "=" not in word]
    if len(names) > 1 or not (names or "predict" in options):
        raise UserError("fit: with law= name one folder or table to hold it against, or places with predict=")
    points = fitting.read_points(options["predict"]) if "predict" in options else []
    count = _choice("fit", options, "parameters", tuple(fitting.COUNTS))
    mixed = _choice("fit", options, "mixed", ("false", "true")) == "true"
    law = fitting.read_law(Path(options["law"]))
    facts: dict[str, Any] = {}
    blocks = []
    if names:
        where = options.get("where", "")
        table = fitting.read_table(Path(names[0]), count=count, columns=columns, mixed=mixed, where=where)
        found = fitting.against(law, table)
        facts, blocks = found.to_json(), [fitting.format_against(found)]
    predictions = fitting.predict(law.ensemble, points)
    facts["predictions"] = [one.to_json() for one in predictions]
    blocks += ["\n".join(fitting.format_predictions(predictions, law.ensemble))] if predictions else []
    print(json.dumps(facts, indent=1) if as_json else "\n\n".join(blocks))
    return 0


COMPARE_HELP = """\
isoflop compare <run or folder of runs> ... [axis=tokens|flop|kwh|gco2e|seconds] [out=<folder>] [--json]
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
    known = ("axis", "by", "out", *LAW_OPTIONS)
    for name in sorted(set(options) - set(known)):
        raise UserError(f"compare: {name}: no such option{nearest(name, known)}; there is {', '.join(known)}")
    from trainer.scaling.efficiency import is_law

    if _choice("compare", options, "by", ("runs", "law")) == "law" or any(map(is_law, names)):
        return _compare_laws(names, options, columns, "--json" in flags)
    if of_laws := [*(name for name in LAW_OPTIONS if name in options), *(f"column.{name}" for name in columns)]:
        raise UserError(f"compare: {of_laws[0]}: only laws read it; add by=law, or name tables")
    return _compare_runs(names, options, "--json" in flags)


def _compare_runs(names: list[str], options: dict[str, str], as_json: bool) -> int:
    from trainer.scaling import compare as comparing

    axis = _choice("compare", options, "axis", tuple(comparing.AXES))
    groups = comparing.read_groups(names)
    found = comparing.compare(groups, axis)
    parents = [str(run.run.parent.resolve()) for group in groups for run in group.runs]
    folder = Path(options.get("out") or Path(os.path.commonpath(parents)) / "comparison")
    facts = comparing.write_comparison(found, axis, folder)
    print(
        json.dumps(facts, indent=1)
        if as_json
        else f"{comparing.format_comparison(found)}\n\npage  {folder}/compare.html"
    )
    return 0


def _compare_laws(names: list[str], options: dict[str, str], columns: dict[str, str], as_json: bool) -> int:
    from trainer.scaling import efficiency
    from trainer.scaling.fit import COUNTS

    if "axis" in options:
        raise UserError("compare: axis: laws are compared in every amount that is stated; leave it out")
    count = _choice("compare", options, "parameters", tuple(COUNTS))
    mixed = _choice("compare", options, "mixed", ("false", "true")) == "true"
    replicates, seed = _number("compare", options, "replicates", 400, 20), _number("compare", options, "seed", 0, 0)
    laws = efficiency.read_laws(names, count=count, columns=columns, mixed=mixed)
    found = efficiency.compare_laws(laws, replicates=replicates, seed=seed)
    folder = Path(options.get("out") or efficiency.default_folder(names))
    facts = efficiency.write_factors(found, folder)
    blocks = "\n\n".join(map(efficiency.format_efficiency, found))
    print(json.dumps(facts, indent=1) if as_json else f"{blocks}\n\npage        {folder}/compare.html")
    return 0


def _choice(verb: str, options: dict[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """One of the allowed words; the first where none is given."""
    given = options.get(name, allowed[0])
    if given not in allowed:
        raise UserError(f"{verb}: {name}: {given!r} given, {' or '.join(allowed)} wanted{nearest(given, allowed)}")
    return given


def _number(verb: str, options: dict[str, str], name: str, default: int, least: int) -> int:
    given = options.get(name, str(default))
    number = whole_number(given)
    if number is None or number < least:
        raise UserError(f"{verb}: {name}: {given!r} given, a whole number of at least {least} wanted")
    return number


GRID_HELP = """\
isoflop grid grid=<name> [grid.key=value ...] [key=value ...] [jobs=1] [out=<folder>] [--plan] [--json]

Pre-trains every objective of the grid with the same budget, tunes all on the same tasks and prints the table. The same
command goes on where an earlier one was stopped. Other keys are overrides of every pre-training run. With grid.sizes
every objective is trained at each size, and told is how many times the compute of the first it needs for a score.
  jobs=1         runs at a time
  out=<folder>   where grid.md, grid.json, grid.png and grid.svg go; default: beside the runs
  --plan         only say which runs there would be, and what they cost
"""


def grid(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json", "--plan")
    if flags & {"--help", "-h"}:
        from trainer.compose import describe_grid

        print(GRID_HELP + describe_grid())
        return 0
    from trainer.scaling import grid as grids

    words, numbers = whole_numbers("grid", words, jobs=1)
    out = [word.removeprefix("out=") for word in words if word.startswith("out=")]
    words = [word for word in words if not word.startswith("out=")]
    if "--plan" in flags:
        print(grids.format_plan(*grids.planned_grid(words)))
        return 0
    return grids.run_grid(words, jobs=numbers["jobs"], out=Path(out[-1]) if out else None, as_json="--json" in flags)
