"""`isoflop fit`: laws through many runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.arguments import folder_and_options, number_of, one_of, split_flags
from trainer.utils.errors import UserError

if TYPE_CHECKING:
    from trainer.scaling.accuracy import Goal
    from trainer.scaling.fit.table import Table

FIT_HELP = """\
isoflop fit <root of runs | table.csv> [name=value ...] [--json]

Fits Chinchilla's three approaches and every form of a law that the runs allow, chooses the form that predicts held-out
larger runs best, and writes fit.json, law.json, fit.html and pictures. A table needs the columns parameters, tokens (or
flop) and loss; kwh, gco2e, money, name, status ... are used if there.

  budget=1e21,25kWh      the best model for these budgets: FLOPs, or with a unit (Wh, kWh, g, kg, t of CO2e, currency)
  predict=7b@4t,1e9@2e10 the loss of runs of these parameters and tokens, with an interval calibrated on held-out runs;
                         what else a law reads stands behind a colon (docs/laws/fit.md)
  tasks=hellaswag,mmlu   of a table with columns <task>_bits_per_byte and <task>_accuracy, or of runs that were asked
                         tasks, these alone; predict= says what a model reaches in each
  accuracy=mmlu:0.6      the cheapest model that reaches this accuracy, and what one point more costs
  form=auto              the forms to choose from: chinchilla, or chinchilla,farseer
  law=<law.json>         a stored law in place of a fit: how it predicts these runs, and, also without runs, predict=
  parameters=total       what N counts for run folders: total, active or non_embedding
  column.<name>=<title>  the column of a table that holds parameters, tokens, flop, loss, kwh, gco2e or money
  settings=lr,batch      fit the best learning rate and batch over N and D (docs/laws/settings.md); default: each that
                         was tried at three or more values at three or more places; none: neither
  sequence_length=2048   tokens of a sequence, where a table states its batch in sequences
  optimal=true           the table's rows are compute-optimal models: only the exponents are fitted, no loss is needed
  where=<column>=<value> only the rows of a table that hold it, or runs by a key; several by commas, values by |
  mixed=true             fit runs of different data, tokenizers or objectives together
  next=3                 instead of a fit: the runs that would narrow the answer to question= most for their price
  question="loss of 1b@20b"   or: loss for <budget>, size for <budget>, exponent
  within=2kWh            what these runs may take in all: FLOPs, or with a unit
  replicates=400         bootstrap replicates
  seed=0                 of the bootstrap
  out=<folder>           where to write; default <root>/fit, or <table>-fit beside the table
"""


OPTIONS = (
    *("budget", "predict", "form", "parameters", "optimal", "mixed", "where", "replicates", "seed", "out"),
    *("tasks", "accuracy", "settings", "sequence_length", "next", "question", "within"),
)
PROPOSING = ("next", "question", "within")
OF_TASKS = ("predict", "tasks", "accuracy")
ANSWERED = ("budget", "predict", "form", "tasks", "accuracy", "settings", *PROPOSING)  # what a fit is asked for


def fit(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if flags & {"--help", "-h"}:
        print(FIT_HELP)
        return 0
    from trainer.scaling import fit as fitting

    given = {word for word in words if word.startswith("column.") and "=" in word}
    columns = {word[7:].split("=")[0]: word.split("=", 1)[1] for word in given}
    words, as_json = [word for word in words if word not in given], "--json" in flags
    if any(word.startswith("law=") for word in words):
        return _by_stored_law(words, columns, as_json)
    source, options = folder_and_options("fit", words, OPTIONS)
    mixed, optimal = (one_of("fit", options, name, ("false", "true")) == "true" for name in ("mixed", "optimal"))
    count = one_of("fit", options, "parameters", tuple(fitting.COUNTS))
    if optimal:
        _alone("optimal=true, which fits the exponents only", options)
        where = fitting.read_conditions(options.get("where", ""))
        table = fitting.read_csv(source, columns, optimal=True, where=where)
        print(json.dumps(fitting.fit_optima(table), indent=1) if as_json else fitting.format_optima(table))
        return 0
    if proposing := bool(options.keys() & set(PROPOSING)):
        _alone("next=, which fits nothing else", options, but=PROPOSING)
    asked = _asked(options)
    table = fitting.read_table(source, count=count, columns=columns, mixed=mixed, where=options.get("where", ""))
    if proposing:
        return _next_runs(table, source, options, as_json)
    default = source / "fit" if source.is_dir() else source.with_name(f"{source.stem}-fit")
    return _fit(table, asked, options, Path(options.get("out") or default), source.name, as_json)


def _alone(what: str, options: dict[str, str], but: tuple[str, ...] = ()) -> None:
    """Raise UserError for an option that would go unanswered."""
    for name in options:
        if name in ANSWERED and name not in but:
            raise UserError(f"fit: {name}: not together with {what}")


@dataclass(frozen=True)
class _Asked:
    """What the options ask for, read before any table is: a wrong word is told at once."""

    points: list[dict[str, float]]
    forms: tuple[str, ...]
    goals: list[Goal]
    budgets: list[str]
    tasks: list[str]
    replicates: int
    seed: int


def _asked(options: dict[str, str]) -> _Asked:
    from trainer.scaling.accuracy import read_goals
    from trainer.scaling.fit import read_forms, read_points

    tasks = [name.strip() for name in options.get("tasks", "").split(",") if name.strip()]
    if "tasks" in options and not tasks:
        raise UserError("fit: tasks: nothing given, names of tasks wanted, such as hellaswag,mmlu")
    return _Asked(
        read_points(options["predict"]) if "predict" in options else [],
        read_forms(options.get("form", "auto")),
        read_goals(options["accuracy"]) if "accuracy" in options else [],
        [text for text in options.get("budget", "").split(",") if text],
        tasks,
        number_of("fit", options, "replicates", 400, 20),
        number_of("fit", options, "seed", 0, 0),
    )


def _fit(table: Table, asked: _Asked, options: dict[str, str], folder: Path, title: str, as_json: bool) -> int:
    """The laws of the loss, of tasks and of settings, as far as the table has them."""
    from trainer.scaling import accuracy as scores
    from trainer.scaling import fit as fitting
    from trainer.scaling.settings.findings import predicted_settings, settings_of
    from trainer.utils.progress import progress_bar

    again, seed = asked.replicates, asked.seed
    tasks = scores.find_tasks(
        table, tasks=asked.tasks, goals=asked.goals, points=asked.points, replicates=again, seed=seed
    )
    if tasks is not None and table.states_no_loss:
        _alone("a table that states no loss, only what runs reached in tasks", options, but=OF_TASKS)
        facts = scores.write_tasks(tasks, folder, title)
        print(json.dumps(facts, indent=1) if as_json else f"{tasks.format()}\n\npage      {folder}/fit.html")
        return 0
    with progress_bar() as progress:
        settings = settings_of(table, options.get("settings"), options.get("sequence_length"), seed)
        found = fitting.fit(
            table,
            budgets=asked.budgets,
            replicates=again,
            seed=seed,
            progress=progress,
            forms=asked.forms,
            points=asked.points,
            beside=[*([tasks.beside] if tasks else []), *predicted_settings(settings)],
        )
    found = replace(found, settings=settings)
    facts = fitting.write_fit(found, folder, title, [tasks] if tasks else [])
    blocks = [fitting.format_findings(found), *([tasks.format()] if tasks else [])]
    pages = f"page      {folder}/fit.html\nlaw       {folder}/law.json"
    pages += f"\nsettings  {folder}/settings.json" if settings else ""
    print(json.dumps(facts, indent=1) if as_json else "\n\n".join([*blocks, pages]))
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
    count = one_of("fit", options, "parameters", tuple(fitting.COUNTS))
    mixed = one_of("fit", options, "mixed", ("false", "true")) == "true"
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


def _next_runs(table: Table, source: Path, options: dict[str, str], as_json: bool) -> int:
    from trainer.scaling import next_runs as proposing

    if "question" not in options:
        raise UserError(f"next: question= is missing; {proposing.GRAMMAR}")
    if source.is_dir() and options.get("parameters", "total") != "total":
        raise UserError("next: parameters=total wanted: model.size, by which the runs are made, counts all parameters")
    count, seed = number_of("fit", options, "next", 3, 1), number_of("fit", options, "seed", 0, 0)
    found = proposing.next_runs(table, source, count, options["question"], options.get("within", ""), seed)
    print(json.dumps({"next": proposing.next_json(found)}, indent=1) if as_json else proposing.format_next(found))
    return 0
