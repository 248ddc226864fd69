"""`isoflop generate`: text from a run's newest checkpoint."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli.arguments import split_flags, weights_and_overrides, works_on
from trainer.utils.bounded import parse_json, read_text
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

if TYPE_CHECKING:
    from trainer.generation import Decoding, Written
    from trainer.generation.loaded_model import Trained

HELP = """\
isoflop generate <run>[@<step>][:<average>] [name=value ...] [--json]

  prompt='def f('         text to continue; with <mask> in it, text to be filled. Without a prompt: one after the other
                          from the terminal, or 'def '
  file=prompts.txt        a prompt a line, or prompts.jsonl with a field "prompt"; out=answers.jsonl
  tokens=200              at most
  temperature=0.8         0: always the likeliest token (the default where <mask> is filled)
  top_k=50  top_p=1       draw from the likeliest tokens only
  repetition_penalty=1    more than 1: tokens that were there before become less likely
  beams=1                 search the likeliest text with so many beams; length_penalty=1
  stop='\\n\\n'             end before this text (\\n and \\t are understood)
  language=de             of the text, for runs of objective=mbart and of models with model.languages
  seed=0
"""
OPTIONS = ("prompt", "file", "out", "stop", "language")
BATCH = 16  # prompts of a file that are continued together


def generate(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if flags & {"--help", "-h"}:
        print(HELP)
        return 0
    run, which, words = weights_and_overrides("generate", words)
    works_on(run)
    from trainer.generation import answer_prompts
    from trainer.generation.decoding import Decoding, split_options
    from trainer.generation.loaded_model import Trained

    chosen, options = split_options("generate", words, OPTIONS)
    decoding = Decoding.parse("generate", chosen)
    _consistent(options)
    prompts = _prompts_of(Path(options["file"])) if "file" in options else None
    trained = Trained.load(run, which).for_language(options.get("language"))
    stop = [options["stop"].replace("\\n", "\n").replace("\\t", "\t")] if options.get("stop") else []
    if prompts is not None:
        found = []
        for first in range(0, len(prompts), BATCH):
            found += answer_prompts(trained, prompts[first : first + BATCH], decoding, stop)
        _tell_of_dropped(found)
        lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)
        if "out" in options:
            write_atomic(Path(options["out"]), lines)
        else:
            print(lines, end="")
    elif "prompt" not in options and sys.stdin.isatty() and "--json" not in flags:
        _converse(trained, decoding, stop)
    else:
        _one(trained, options.get("prompt", "def "), decoding, stop, as_json="--json" in flags)
    return 0


def _consistent(options: dict[str, str]) -> None:
    if "file" in options and "prompt" in options:
        raise UserError("generate: prompt and file contradict: give one of the two")
    if "out" in options and "file" not in options:
        raise UserError("generate: out: it takes the answers to file=...; a single text goes to the terminal")


def _prompts_of(file: Path) -> list[str]:
    """One a line. Raises UserError, naming file and line, where a line holds none."""
    try:
        lines = read_text(file).splitlines()
    except UserError as error:
        raise UserError(f"generate: file: cannot read {error}") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        if file.suffix == ".jsonl":
            try:
                line = parse_json(line)["prompt"]
            except (ValueError, KeyError, TypeError):
                raise UserError(f'generate: {file}, line {number}: no JSON object with a field "prompt"') from None
        if not isinstance(line, str) or not line.strip():
            raise UserError(f"generate: {file}, line {number}: the prompt is empty")
        prompts.append(line)
    if not prompts:
        raise UserError(f"generate: {file}: there is no prompt in it")
    return prompts


def _one(trained: Trained, prompt: str, decoding: Decoding, stop: list[str], *, as_json: bool) -> None:
    from trainer.generation import MASK, answer_prompts

    filled = trained.family == "encoder" or MASK in prompt
    if as_json or filled or decoding.beams > 1:
        [found] = answer_prompts(trained, [prompt], decoding, stop)
        if as_json:
            print(json.dumps({"run": str(trained.run), "step": trained.step, **asdict(found)}, indent=1))
        else:
            print(found.text if filled or trained.family == "encoder_decoder" else prompt + found.text)
    else:
        print(prompt if trained.family == "decoder" else "", end="", flush=True)
        [found] = answer_prompts(trained, [prompt], decoding, stop, tell=lambda text: print(text, end="", flush=True))
        print()
    _tell_of_dropped([found])


def _converse(trained: Trained, decoding: Decoding, stop: list[str]) -> None:
    """Prompts from the terminal until it ends."""
    print(f"{trained.run}, step {trained.step}. A prompt and Enter; Ctrl-D ends.", file=sys.stderr)
    number = 0
    while True:
        try:
            prompt = input("> ")
        except EOFError:
            print()
            return
        try:
            _one(trained, prompt, replace(decoding, seed=decoding.seed + number), stop, as_json=False)
        except UserError as error:
            print(f"isoflop: {error}", file=sys.stderr)
        number += 1


def _tell_of_dropped(found: list[Written]) -> None:
    cut = [one.dropped for one in found if one.dropped]
    if cut:
        many = f"{len(cut)} of {len(found)} prompts were" if len(found) > 1 else "the prompt was"
        print(f"isoflop: {many} longer than the model reads: {sum(cut)} tokens cut off on the left", file=sys.stderr)
