"""The command `isoflop`: finds the verb, and answers what a person got wrong."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainer import __version__
from trainer.cli import (
    board,
    compare,
    data,
    evaluate,
    finetune,
    fit,
    generate,
    grid,
    hub,
    launch,
    ledger,
    merge,
    models,
    new,
    price,
    publish,
    remember,
    report,
    schema,
    sweep,
    train,
    transfer,
    verify,
)
from trainer.cli.arguments import take_config_options, take_plugins
from trainer.plugins import load
from trainer.training.faults.signals import behind, interrupted
from trainer.utils.command_line import remember as remember_words
from trainer.utils.errors import UserError, code_of, nearest, tell, tell_fault
from trainer.utils.files import FULL
from trainer.utils.outcomes import ExitCode
from trainer.utils.own_packages import ForeignPackage, require_own_packages

USAGE = """\
isoflop: pre-training at many sizes, with the price tag attached

  isoflop train [key=value ...]         train; resume=<run> goes on, init=<run> begins from its weights, -m: many runs
  isoflop launch [key=value ...]        the same on many nodes: launch=torchrun|slurm; --dry-run shows, -m is one array
  isoflop status [root]                 runs and jobs: state, step, tokens/s, price so far, last event
  isoflop cancel <run> ...              end a run: its SLURM jobs, or the process here, which saves first
  isoflop preflight [key=value ...]     check this host, or all nodes of a launch, and train nothing
  isoflop sweep ladder=<name> [...]     train the runs of a ladder, each once; --plan: what they will cost
  isoflop plan [key=value ...]          the price tag of exactly that run, before it starts; -m: one row per swept run
  isoflop model [key=value ...]         parameters and FLOPs of a model, by part
  isoflop models                        the families of models: papers, presets, objectives, what goes in and out
  isoflop data [key=value ...]          prepare tokenizer and token shards, and say what they hold
  isoflop data show step=N [...]        what a step reads, decoded, with its noise marked
  isoflop data card [...]               the data card: sources, sizes, hashes, and what is not stated
  isoflop data verify [...]             hash the prepared files; of a run, of a folder, or --all of the cache
  isoflop data clean [<entry> ...]      list the cache of prepared data; delete an entry, older=30d or all=true
  isoflop tokenizer [out=file] [...]    train the tokenizer alone
  isoflop eval <run> [tasks=...]        held-out loss of a run's newest checkpoint, or zero- to few-shot tasks
  isoflop generate <run> [prompt=...]   text from a run's newest checkpoint, <mask>s filled, prompts of a file
  isoflop finetune <run> task=... [...] tune a run on a task: a class, words, a span, a text, preferences, rewards
  isoflop report <run> [site=...]       write report.html, card.md and pricetag.json anew, and print the price tag
  isoflop board [root]                  a live page of its runs on this host: curves, prices, events; port=, open=false
  isoflop ledger [root]                 what all runs of a root cost, failed ones included; site=, out=ledger.tex
  isoflop publish <root> to=<folder>    tables, forms and a page for a paper, with the files that they come from
  isoflop verify <folder> [rerun=<run>] derive all of it again, name a changed byte, train a run again to the bit
  isoflop price name=number ...         price any work, e.g. gpu_hours=184320 watts=400 pue=1.1 gco2e_per_kwh=385
  isoflop fit <root | table.csv>        the scaling law through many runs, and the best model for a budget
  isoflop grid grid=<name> [...]        pre-training objectives at equal compute, tuned on the same tasks: the table
  isoflop compare <run> <run> ...       what differs, and whether the loss differs by more than seed noise
  isoflop transfer <root | table.csv>   where the best learning rate stood at each size, its drift, and what that costs
  isoflop workspace <root>              a saved W&B view of its runs: loss against size, FLOPs, kWh, g CO2e
  isoflop calibrate [key=value ...]     measure this machine, so that plans tell its time; runs=<root>: GPUs, by runs
  isoflop config [key=value ...]        remember machinery for all your runs, e.g. site=de-2023; site=null forgets
  isoflop import <folder> to=<run>      a Hugging Face checkpoint as a run folder
  isoflop export <run> to=<folder>      a run as a Hugging Face checkpoint, with tokenizer and model card
  isoflop merge <run> steps=100,200     an average of checkpoints, in place of a decay of the learning rate
  isoflop new <folder>                  a project of yours: configs with a model and an experiment, README, a test
  isoflop schema [group] [out=file]     a JSON Schema of a group's files, so that an editor completes and checks them
  isoflop completion bash|zsh           shell completion: eval "$(isoflop completion bash)"

  isoflop --version                     the version, and those of Python, torch and DeepSpeed
  --help after a verb lists the groups and keys; --json prints figures as JSON
  --cfg prints the configuration; --info prints every key with its value and who set it
  --config-dir DIR (or ISOFLOP_CONFIG_DIR) holds files of yours: DIR/model/mine.yaml is model=mine, as for any group;
  so is model=path/to/mine.yaml; DIR/experiment/name.yaml is a file of overrides, experiment=name
  plugins=[my_module] (or ISOFLOP_PLUGINS) adds objectives, optimizers, trackers and more of yours: my_module.py here,
  or plugins=[path/to/mine.py]; those of installed distributions are found without it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code.

    Bad input is one line per error and exit code 2; what isoflop got wrong is one line that names the file with the
    traceback, and exit code 1.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    remember_words(words)
    try:
        require_own_packages()
        _stands_somewhere()
        if strange := [word for word in words if not word.isprintable() and not _is_text(word)]:
            raise UserError(f"{strange[0]!r}: no text in UTF-8")
        if not words or words[0] in ("-h", "--help", "help"):
            print(USAGE)
            return 0
        if words[0] == "--version":
            print(version())
            return 0
        words, settings = take_config_options(words)
        words, plugins = take_plugins(words)
        if not words:
            raise UserError(f"name a verb; there is {', '.join(VERBS)}")
        verb, arguments = words[0], words[1:]
        if verb not in VERBS:
            hint = "; overrides follow a verb: isoflop train " + verb if "=" in verb else ""
            raise UserError(f"{verb}: no such verb{nearest(verb, VERBS)}; there is {', '.join(VERBS)}{hint}")
        load(plugins)
        if not settings:
            return _work(verb, arguments, whole=argv is None)
        from trainer.compose import searching

        with searching(**settings):
            return _work(verb, arguments, whole=argv is None)
    except (UserError, ForeignPackage) as error:
        tell(error)
        return code_of(error)
    except BrokenPipeError:
        return 0
    except OSError as error:
        if error.errno in FULL:
            what = error.filename or "standard output, or a file that was being written"
            tell(UserError(f"{what}: the disk, or the quota on it, is full; free some space"))
            return ExitCode.FAILED
        if error.filename is None:  # nothing that a person could see to
            return _failed(error)
        tell(UserError(f"{error.filename}: {error.strerror}"))
        return ExitCode.BAD_INPUT
    except KeyboardInterrupt as error:
        return interrupted(error)
    except Exception as error:
        return _failed(error)


def _work(verb: str, arguments: list[str], *, whole: bool) -> int:
    """The exit code of a verb; of one that works, what it spends is metered, of a whole process from its start."""
    if {"-h", "--help", "--plan", "--cfg", "--info"} & set(arguments):
        return VERBS[verb](arguments)
    from trainer.meter.costs import METERED, metered

    work = partial(VERBS[verb], arguments)
    return metered(verb, [verb, *arguments], work, whole=whole) if verb in METERED else work()


def _failed(error: Exception) -> int:
    """The exit code of an error of ours, which is told, or of an interruption that a library turned into one."""
    if (interruption := behind(error)) is not None:
        return interrupted(interruption)
    tell_fault(error)
    return ExitCode.FAILED


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # bytes of a command line that are no UTF-8
        return False
    return True


def _stands_somewhere() -> None:
    """Raise UserError where the folder that the command was given in is deleted."""
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the working directory cannot be used ({error.strerror}); cd to another one") from None


def version() -> str:
    """`isoflop <version>`, and a line with the versions that a report of a bug needs; imports none of them."""
    below = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "deepspeed")]
    return f"isoflop {__version__}\n{', '.join([f'Python {platform.python_version()}', *below])}"


def completion(arguments: list[str]) -> int:
    from trainer.cli.completion import candidates, script

    if arguments and arguments[0] == "--words":
        print("\n".join(candidates(arguments[1:], list(VERBS))))
        return 0
    print(script(arguments[0] if arguments else "bash"))
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train.train,
    "launch": launch.launch,
    "status": launch.status,
    "cancel": launch.cancel,
    "preflight": launch.preflight,
    "sweep": sweep.sweep,
    "plan": train.plan,
    "model": train.model,
    "models": models.models,
    "data": data.data,
    "tokenizer": data.tokenizer,
    "finetune": finetune.finetune,
    "eval": evaluate.evaluate,
    "generate": generate.generate,
    "report": report.report,
    "publish": publish.publish,
    "verify": verify.verify,
    "workspace": report.workspace,
    "board": board.board,
    "ledger": ledger.ledger,
    "price": price.price,
    "fit": fit.fit,
    "compare": compare.compare,
    "transfer": transfer.transfer,
    "grid": grid.grid,
    "calibrate": price.calibrate,
    "config": remember.config,
    "import": hub.import_,
    "export": hub.export,
    "merge": merge.merge,
    "new": new.new,
    "schema": schema.schema,
    "completion": completion,
}
