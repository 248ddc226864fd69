"""`isoflop lab`: GPT, BERT and BART beside each other."""

from __future__ import annotations

from trainer.cli.arguments import split_flags, take_folder, take_number, whole_numbers
from trainer.utils.errors import UserError, nearest

LAB_HELP = """\
isoflop lab [minutes=10] [key=value ...] [jobs=...] [out=<folder>] [--plan] [--json]

Pre-trains a GPT, a BERT and a BART with the same FLOPs on the text that comes with Python, tunes each on one task, and
prints one table: parameters, FLOPs, tokens, held-out loss beside counting, the task, and the price, planned and
measured. It is the grid conf/grid/lab.yaml; the same command goes on where an earlier one was stopped. Other keys are
overrides of every pre-training run, e.g. site=de-2023; of the grid, grid.seeds=[0,1,2].
  minutes=10     of two cores, for the whole: it sets the FLOPs, so that a slower host takes longer
  jobs=2         runs at a time; default: as many as there are cores, 2 at most
  out=<folder>   where lab.md, lab.json, grid.md, grid.json, grid.png and grid.svg go; default: beside the runs
  --plan         only say which runs there would be, and what they cost
"""
OPTIONS = ("minutes", "jobs", "out")


def lab(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json", "--plan")
    if flags & {"--help", "-h"}:
        print(LAB_HELP.rstrip("\n"))
        return 0
    if odd := [word for word in words if "=" not in word and not word.startswith("~")]:
        raise UserError(f"lab: {odd[0]}: key=value wanted{nearest(odd[0], OPTIONS)}, e.g. minutes=1")
    from trainer.config.host import cores
    from trainer.scaling.grid import lab as labs

    _no_misspelt_options(words)
    words, minutes = take_number(words, "minutes")
    words, numbers = whole_numbers("lab", words, jobs=max(1, min(2, cores())))
    words, place = take_folder("lab", words)
    if "--plan" in flags:
        print(labs.plan_lab(words, minutes, jobs=numbers["jobs"]))
        return 0
    return labs.run_lab(words, minutes, jobs=numbers["jobs"], out=place, as_json="--json" in flags)


def _no_misspelt_options(words: list[str]) -> None:
    """Raise UserError where a word is neither an option nor a key, and is spelled like an option."""
    from trainer.compose import groups
    from trainer.config import Config

    for name in (word.partition("=")[0] for word in words):
        if name not in {*OPTIONS, *groups(), *Config.model_fields} and (near := nearest(name, OPTIONS)):
            raise UserError(f"lab: {name}: no such option{near}")
