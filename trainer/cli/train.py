"""Verbs before and during training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trainer.cli.arguments import split_flags, take_documents, take_number, wants_help
from trainer.cli.curves import draw, pieces, schedule_json, schedule_text, take_curves
from trainer.cli.layouts import plan_layouts, take_layouts
from trainer.cli.show_config import FLAGS, shown, take_values
from trainer.utils.errors import UserError

if TYPE_CHECKING:
    from trainer.books.table import PlanRow
    from trainer.config import Config


def train(arguments: list[str]) -> int:
    words, flags = split_flags(take_values(arguments), "--json", "-m", "--multirun", "-r", "--run", *FLAGS)
    begins = "[resume=<run> | init=<run> | branch=<run>@<step>]"
    usage = f"isoflop train [key=value ...] {begins} [-m] [--cfg] [--info] [--json]\n"
    if wants_help(flags, usage, words):
        return 0
    from trainer.run.start import start

    if shown(words, flags):
        return 0
    if flags & {"-m", "--multirun"}:
        from trainer.scaling.ladder import planned_runs
        from trainer.scaling.sweep import train_all

        return train_all(planned_runs(words), as_json="--json" in flags)
    return start(words, as_json="--json" in flags)


PLAN_USAGE = """\
isoflop plan [key=value ...] [documents=600,424] [-m] [--largest [tokens_per_parameter=20]]
             [--curves [out=curves.svg] [axis=steps|tokens]] [layouts=8x8] [--json] [--cfg] [--info]

  layouts=   the ten cheapest layouts of so many nodes x devices for this run, and the words that run each; keys of the
             engine that are given stay
  --largest  the largest model of the preset's kind that the budget trains; of budget.flop, on enough tokens a parameter
  --curves   a picture of the rate, the batches and whatever else changes along the run, as SVG or PNG
"""


def plan(arguments: list[str]) -> int:
    words, flags = split_flags(take_values(arguments), "--json", "-m", "--multirun", "--largest", "--curves", *FLAGS)
    if wants_help(flags, PLAN_USAGE, words):
        return 0
    words, documents = take_documents(words)
    words, ratio = take_number(words, "tokens_per_parameter")
    words, curves = take_curves(words, flags)
    words, cluster = take_layouts(words, flags)
    if shown(words, flags):
        return 0
    if cluster is not None:
        if documents or ratio is not None:
            raise UserError("layouts: leave documents= and tokens_per_parameter= out")
        return plan_layouts(words, cluster, as_json="--json" in flags)
    from trainer.books import format_plans, format_price_tag, plan_row, plans_json
    from trainer.books.largest import largest, size_of
    from trainer.compose import compose, sweep

    if ratio is not None and "--largest" not in flags:
        raise UserError("tokens_per_parameter: only plan --largest with budget.flop asks for it")

    def planned(run: list[str]) -> tuple[list[str], Config, PlanRow]:
        """The words of a run, with --largest the size that was found as the last one, what they describe, and its row
        of the table."""
        config = compose(run)
        if "--largest" in flags:
            config = largest(config, ratio)
            run = [*run, f"model.size={size_of(config)}"]
        return run, config, plan_row(" ".join(run), config, documents)

    if flags & {"-m", "--multirun"}:
        if curves:
            raise UserError("plan --curves: one run is drawn; leave out -m and state one value of each key")
        rows = [row for *_, row in map(planned, sweep(words))]
        print(json.dumps(plans_json(rows), indent=1) if "--json" in flags else format_plans(rows))
        return 0
    run, config, row = planned(words)
    schedule = pieces(config, row.tag)
    drawn = draw(config, schedule, curves) if curves else None
    if "--json" in flags:
        found = {"overrides": run, **row.tag.to_json(), "schedule": schedule_json(schedule)}
        print(json.dumps(found | ({"curves": str(curves.out)} if curves else {}), indent=1))
        return 0
    if "--largest" in flags:
        print(f"the largest model of its kind for this budget: {run[-1]}\n")
    print(format_price_tag(row.tag) + schedule_text(config, schedule, curves))
    if drawn:
        print(drawn)
    return 0


def model(arguments: list[str]) -> int:
    words, flags = split_flags(take_values(arguments), "--json", *FLAGS)
    if wants_help(flags, "isoflop model [key=value ...] [documents=600,424] [--json]\n", words):
        return 0
    words, documents = take_documents(words)
    if shown(words, flags):
        return 0
    from trainer.books import format_model, model_account
    from trainer.compose import compose

    account = model_account(compose(words), documents)
    print(json.dumps(account, indent=1) if "--json" in flags else format_model(account))
    return 0
