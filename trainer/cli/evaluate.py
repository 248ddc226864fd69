"""`isoflop eval`: held-out loss and tasks of a run's newest checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.cli.arguments import split_flags, weights_and_overrides, whole_numbers, works_on
from trainer.run_folder import RunFolder
from trainer.utils.bounded import whole_number
from trainer.utils.errors import UserError
from trainer.utils.which_weights import Which

OPTIONS = ("tasks", "shots", "language")
HELP = """\
isoflop eval <run>[@<step>][:<average>] [key=value ...] [--json]

  without tasks           loss on all held-out text, for causal models bits per byte, by source and language; for
                          encoders and encoder-decoders a score of short passages beside it; of a tuned run the
                          scores of its task
  tasks=agreement,copy    tasks of the shipped suite; tasks=suite: all of them
  tasks=my-task.yaml      a task file of lm-evaluation-harness, or a folder of them; local data files only
  tasks=SuperGLUE/        folders BoolQ, CB, COPA, MultiRC, ReCoRD, RTE, WiC, WSC with val.jsonl and train.jsonl
  shots=0,1,4,16          examples in the context (default: what the task says)
  limit=200               items of each task at most
  seed=0                  of the examples in the context, and of the suite's items
  language=de             of the tasks, for runs of objective=mbart
  data.path=... ...       held-out loss on other data than the run's
  <run>@400:ema           of the checkpoint of a step, of an average of the weights (docs/averages.md)

  Scores go to the run's evaluation.json, its report and, for several numbers of examples, in_context.png.
"""


def evaluate(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if flags & {"--help", "-h"}:
        print(HELP)
        return 0
    run, which, words = weights_and_overrides("eval", words)
    works_on(run)
    options = dict(word.split("=", 1) for word in words if word.partition("=")[0] in OPTIONS)
    words = [word for word in words if word.partition("=")[0] not in OPTIONS]
    if "tasks" not in options:
        if options:
            raise UserError(f"eval: {next(iter(options))}: only tasks read it; add tasks=...")
        tuned = RunFolder(run).load_config().task.kind is not None
        (_of_tuning if tuned else _held_out)(run, which, words, as_json="--json" in flags)
        return 0
    words, numbers = whole_numbers("eval", words, limit=200, seed=0)
    if words:
        raise UserError(f"eval: {words[0]}: with tasks there is shots, limit and seed; data keys are for held-out loss")
    if numbers["limit"] < 1:
        raise UserError("eval: limit: 0 given, 1 or more wanted")
    shots = _numbers(options["shots"]) if "shots" in options else None
    names = [name for name in options["tasks"].split(",") if name]
    if not names:
        raise UserError("eval: tasks: none named; e.g. tasks=suite")
    asked = Asked(names, shots, numbers["limit"], numbers["seed"], options.get("language"))
    _tasks(run, which, asked, as_json="--json" in flags)
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    found = [whole_number(part) for part in text.split(",")]
    if None in found:
        raise UserError(f"eval: shots: {text!r} given, whole numbers wanted, e.g. shots=0,4")
    return tuple(dict.fromkeys(number for number in found if number is not None))


def _of_tuning(run: Path, which: Which, overrides: list[str], *, as_json: bool) -> None:
    from trainer.evaluate.task_scores import format_scores, score_task

    if overrides:
        raise UserError(f"eval: {overrides[0]}: a tuned run is scored on the task that it has")
    scores = score_task(run, which)
    print(json.dumps(scores, indent=1) if as_json else format_scores(scores))


def _held_out(run: Path, which: Which, overrides: list[str], *, as_json: bool) -> None:
    from trainer.data import said_unknown
    from trainer.evaluate.held_out import held_out
    from trainer.evaluate.results import keep_results, writing_to
    from trainer.utils.progress import progress_bar

    with progress_bar() as progress:
        result = held_out(run, overrides, progress, which)
    if not overrides and which.step is None:
        with writing_to(run):
            keep_results(run, result["step"], result, average=which.average)
    if as_json:
        print(json.dumps(result, indent=1))
        return
    print(f"step {result['step']}{_of(which)}: {_held_out_line(result)}")
    if line := said_unknown(result["unknown_share"], "held-out"):
        print(f"  {line}")
    passages = result["passages"]
    if passages:
        print(f"  {passages['measure']}: {_passages_line(passages)}")
    for part in ("sources", "languages"):
        for name, one in result[part].items():
            score = one["bits_per_byte"] if one["bits_per_byte"] is not None else one["loss"]
            unit = "bits/byte" if one["bits_per_byte"] is not None else "nats per target"
            own = passages[part].get(name) if passages else None
            more = f"; {_passages_line(own)}" if own else ""
            print(f"  {part[:-1]:<9} {name:<20} {score:.4f} {unit}{more}")


def _of(which: Which) -> str:
    return "" if which.average is None else f", average {which.average}"


def _named(which: Which) -> dict[str, str]:
    return {} if which.average is None else {"average": which.average}


def _held_out_line(result: dict[str, Any]) -> str:
    """The loss, in bits per byte where it is a likelihood, beside that of a model without context on the same text."""
    in_bits, below = result["bits_per_byte"] is not None, result["below_unigram"]
    yardstick = ""
    if below is not None:
        baseline = result["unigram_bits_per_byte" if in_bits else "unigram_loss"]
        yardstick = f"unigram baseline {baseline:.4f}, {abs(below):.1%} {'below' if below >= 0 else 'above'} it"
    if in_bits:
        return f"{result['bits_per_byte']:.4f} bits/byte on held-out text ({yardstick})"
    notes = "; ".join(filter(None, (result["measure"], yardstick)))
    return f"held-out loss {result['loss']:.4f} nats per target ({notes})"


def _passages_line(score: dict[str, Any]) -> str:
    return (
        f"{score['nats_per_token']:.4f} nats per token, {score['nats_per_byte']:.4f} nats per byte of "
        f"{score['passages']} passages"
    )


@dataclass(frozen=True)
class Asked:
    """Which tasks, with how many examples, how many items of each, in what language."""

    names: list[str]
    shots: tuple[int, ...] | None
    limit: int
    seed: int
    language: str | None


def _tasks(run: Path, which: Which, asked: Asked, *, as_json: bool) -> None:
    from trainer.evaluate.results import HEADS, keep_results, notes_on, read_results, table_of, writing_to
    from trainer.evaluate.tasks import find_tasks, own_shots, run_task
    from trainer.generation.loaded_model import Trained
    from trainer.report.evaluations import in_context_picture
    from trainer.utils.files import write_atomic
    from trainer.utils.progress import progress_bar

    tasks = find_tasks(asked.names, asked.limit, asked.seed, RunFolder(run).load_config().data)
    trained = Trained.load(run, which).for_language(asked.language)
    found: list[dict[str, Any]] = []
    with progress_bar() as progress:
        for task in tasks:
            for number in asked.shots if asked.shots is not None else own_shots(task.name) or (task.shots,):

                def tell(what: str, done: int, total: int, number: int = number) -> None:
                    progress(f"{what}, {number} shown", done, total)

                found.append(run_task(trained, task, number, asked.seed, asked.limit, tell).to_json())
    if which.step is None:
        with writing_to(run):
            keep_results(run, trained.step, tasks=found, average=which.average)
            picture = None if which.average else in_context_picture(read_results(run)["tasks"])
            if picture:
                write_atomic(run / "in_context.png", picture)
    if as_json:
        print(json.dumps({"run": str(run), "step": trained.step, **_named(which), "tasks": found}, indent=1))
        return
    table = [HEADS, *table_of(found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADS))]
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
    print("\n".join(["", *notes_on(found), f"step {trained.step}{_of(which)}; +- is one standard error"]))
