"""The verbs of `isoflop`: where each is implemented, what it does, and the page of the documentation about it.

They are imported when they are called: `isoflop --help` reads this table alone.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple


class Verb(NamedTuple):
    """where: `<module of trainer/cli>.<function>`, called with the words after the verb; returns an exit code."""

    where: str
    does: str
    page: str


# Section -> verb -> what is known of it. `does` fits a line of 80 characters behind the longest name.
SECTIONS: dict[str, dict[str, Verb]] = {
    "before": {
        "plan": Verb("train.plan", "the price tag of exactly that run, before it starts", "price-tag.md"),
        "model": Verb("train.model", "parameters and FLOPs of a model, by part", "models.md"),
        "models": Verb("models.models", "the families of models: papers, presets, objectives", "models.md"),
        "data": Verb("data.data", "prepare token shards; show, card, verify, clean", "data.md"),
        "tokenizer": Verb("data.tokenizer", "train the tokenizer alone", "data.md"),
        "calibrate": Verb("price.calibrate", "measure this machine, so that plans tell its time", "price-tag.md"),
    },
    "train": {
        "train": Verb("train.train", "train; resume=, init=, branch= go on from a run; -m: many", "launch.md"),
        "launch": Verb("launch.launch", "the same on many nodes: launch=torchrun|slurm", "launch.md"),
        "sweep": Verb("sweep.sweep", "train the runs of a ladder, each once", "scaling.md"),
        "grid": Verb("grid.grid", "objectives at equal compute, tuned on the same tasks", "laws/grid.md"),
        "lab": Verb("lab.lab", "a GPT, a BERT and a BART at equal compute: one table", "lab.md"),
        "finetune": Verb("finetune.finetune", "tune a run on a task", "tuning.md"),
        "merge": Verb("merge.merge", "an average of checkpoints, in place of a decay", "averages.md"),
    },
    "watch": {
        "profile": Verb("profile.profile", "where a step's time goes, beside what the books expect", "profile.md"),
        "status": Verb("launch.status", "runs and jobs: state, step, tokens/s, price so far", "launch.md"),
        "board": Verb("board.board", "a live page of a root's runs: curves, prices, events", "board.md"),
        "cancel": Verb("launch.cancel", "end a run: its SLURM jobs, or the process here", "launch.md"),
        "report": Verb("report.report", "write report.html anew, and print the price tag", "price-tag.md"),
        "ledger": Verb("ledger.ledger", "what all runs of a root cost, failed ones included", "price-tag.md"),
        "price": Verb("price.price", "price any work, e.g. gpu_hours=184320 watts=400", "carbon.md"),
        "workspace": Verb("report.workspace", "a saved W&B view of the runs of a root", "tracking.md"),
    },
    "use": {
        "eval": Verb("evaluate.evaluate", "held-out loss, or zero- to few-shot tasks", "evaluation.md"),
        "generate": Verb("generate.generate", "text from a run, <mask>s filled", "evaluation.md"),
        "export": Verb("hub.export", "a run as a Hugging Face checkpoint", "models.md"),
        "import": Verb("hub.import_", "a Hugging Face checkpoint as a run folder", "models.md"),
    },
    "conclude": {
        "compare": Verb("compare.compare", "what differs, and whether by more than seed noise", "laws/compare.md"),
        "fit": Verb("fit.fit", "the scaling law through many runs", "laws/fit.md"),
        "transfer": Verb("transfer.transfer", "where the best learning rate stood at each size", "laws/settings.md"),
        "publish": Verb("publish.publish", "tables and a page for a paper, with their sources", "publish.md"),
        "verify": Verb("verify.verify", "derive what was published again, to the bit", "publish.md"),
    },
    "set up": {
        "doctor": Verb("doctor.doctor", "this host: what will be used, what is missing", "shell.md"),
        "preflight": Verb("launch.preflight", "check this host, or all nodes of a launch", "launch.md"),
        "config": Verb("remember.config", "remember machinery for all your runs", "configuration.md"),
        "new": Verb("new.new", "a project of yours: configs, README, tests", "configuration.md"),
        "schema": Verb("schema.schema", "a JSON Schema, so that editors complete keys", "configuration.md"),
        "completion": Verb("completion.completion", "shell completion for bash and zsh", "shell.md"),
        "help": Verb("help.help_", "find verbs, keys, options and pages by words", "shell.md"),
    },
}
TABLE = {name: verb for verbs in SECTIONS.values() for name, verb in verbs.items()}


def _imported(verb: Verb) -> Callable[[list[str]], int]:
    module, _, function = verb.where.partition(".")

    def work(arguments: list[str]) -> int:
        code: int = getattr(import_module(f"trainer.cli.{module}"), function)(arguments)
        return code

    return work


VERBS: dict[str, Callable[[list[str]], int]] = {name: _imported(verb) for name, verb in TABLE.items()}


def usage() -> str:
    """What `isoflop --help` prints: 24 lines of 80 characters at most."""
    lines = ["isoflop: pre-training at many sizes, with the price tag attached", ""]
    lines += [f"  {section:<9} {'  '.join(verbs)}" for section, verbs in SECTIONS.items()]
    return "\n".join(lines) + FIRST_STEPS


FIRST_STEPS = """

  isoflop plan model=gpt-mini      what it will cost
  isoflop train model=gpt-mini     train it; Ctrl-C saves, resume=<run> goes on
  isoflop help verbs               a line about each verb
  isoflop help <verb>              its words and flags; <verb> --help: the keys
  isoflop help learning rate       find verbs, keys, presets and pages by words
  isoflop doctor                   what will be used here, and what is missing

  --json prints figures as JSON; --cfg the configuration, --info who said what
  --config-dir DIR has files of yours: DIR/model/mine.yaml is model=mine
  plugins=[my_module] adds objectives, optimizers and trackers of yours
  isoflop --version                and of Python, torch, deepspeed and triton
"""


def listing() -> str:
    """A line about each verb, of 80 characters at most."""
    lines = []
    for section, verbs in SECTIONS.items():
        lines += ["", section, *(f"  {name:<11}{verb.does}" for name, verb in verbs.items())]
    return "\n".join(lines[1:])
