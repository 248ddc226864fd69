"""The verbs of `isoflop`; each is a few lines that call one room."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.errors import UserError, nearest

USAGE = """\
isoflop: pre-training at many sizes, with the price tag attached

  isoflop train [key=value ...]         train; resume=<run> goes on with a run, -m trains one run per swept value
  isoflop plan [key=value ...]          the price tag of exactly that run, before it starts
  isoflop model [key=value ...]         parameters and FLOPs of a model, by part
  isoflop data [key=value ...]          prepare tokenizer and token shards, and say what they hold
  isoflop eval <run>                    held-out bits per byte of a run's newest checkpoint
  isoflop generate <run> [prompt=...]   text from a run's newest checkpoint
  isoflop report <run>                  write report.html, card.md and pricetag.json anew, and print the price tag
  isoflop import <folder> to=<run>      a Hugging Face checkpoint as a run folder
  isoflop export <run> to=<folder>      a run as a Hugging Face checkpoint, with tokenizer and model card
  isoflop completion bash|zsh           shell completion: eval "$(isoflop completion bash)"

  --help after a verb lists the groups and keys; --cfg prints the configuration; --json prints figures as JSON
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Bad input is one line per error and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        _own_packages()
        if not words or words[0] in ("-h", "--help", "help"):
            print(USAGE)
            return 0
        verb, arguments = words[0], words[1:]
        if verb not in VERBS:
            hint = "; overrides follow a verb: isoflop train " + verb if "=" in verb else ""
            raise UserError(f"{verb}: no such verb{nearest(verb, VERBS)}; there is {', '.join(VERBS)}{hint}")
        return VERBS[verb](arguments)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"isoflop: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        print("isoflop: interrupted", file=sys.stderr)
        return 130


def _own_packages() -> None:
    """Other distributions carry packages of these names; a foreign one would be a riddle later on."""
    home = Path(__file__).resolve().parent.parent
    for name in ("kernels", "launch", "conf"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve().parent.parent if spec and spec.origin else None
        if found != home:
            where = spec.origin if spec and spec.origin else "missing"
            raise UserError(
                f"the package {name!r} is not ours ({where}); uninstall the foreign one or start in another folder"
            )


def _flags(arguments: list[str], *known: str) -> tuple[list[str], set[str]]:
    """Split words into overrides and flags. Raises UserError for a flag this verb does not have."""
    flags = {word for word in arguments if word.startswith("-") and "=" not in word}
    for flag in sorted(flags - {*known, "--help", "-h"}):
        raise UserError(f"{flag}: no such option{nearest(flag, known)}; there is {', '.join(known) or 'none'}")
    return [word for word in arguments if word not in flags], flags


def _help(flags: set[str], text: str) -> bool:
    if flags & {"--help", "-h"}:
        from trainer.compose import describe_keys

        print(text + describe_keys())
        return True
    return False


def train(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--cfg", "--json", "-m", "--multirun")
    if _help(flags, "isoflop train [key=value ...] [resume=<run>] [-m] [--cfg] [--json]\n"):
        return 0
    from trainer.start import start, start_many

    if "--cfg" in flags:
        return _show_config(words)
    if flags & {"-m", "--multirun"}:
        return start_many(words, as_json="--json" in flags)
    return start(words, as_json="--json" in flags)


def _show_config(words: list[str]) -> int:
    from trainer.compose import compose

    print(compose(words).to_yaml(), end="")
    return 0


def plan(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json", "--cfg")
    if _help(flags, "isoflop plan [key=value ...] [--json] [--cfg]\n"):
        return 0
    if "--cfg" in flags:
        return _show_config(words)
    from trainer.books import format_price_tag
    from trainer.books import plan as price_tag
    from trainer.compose import compose

    tag = price_tag(compose(words))
    print(json.dumps(tag.to_json(), indent=1) if "--json" in flags else format_price_tag(tag))
    return 0


def model(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json", "--cfg")
    if _help(flags, "isoflop model [key=value ...] [--json]\n"):
        return 0
    if "--cfg" in flags:
        return _show_config(words)
    from trainer.books import format_model, model_account
    from trainer.compose import compose

    account = model_account(compose(words))
    print(json.dumps(account, indent=1) if "--json" in flags else format_model(account))
    return 0


def data(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json")
    if _help(flags, "isoflop data [key=value ...] [--json]\n"):
        return 0
    from trainer.compose import compose
    from trainer.start import prepare_with_progress

    prepared = prepare_with_progress(compose(words))
    facts = {
        "folder": str(prepared.folder),
        "fingerprint": prepared.fingerprint,
        "vocabulary": prepared.vocabulary,
        **{name: vars(getattr(prepared, name)) for name in ("train", "held_out")},
    }
    if "--json" in flags:
        print(json.dumps(facts, indent=1, default=str))
    else:
        for name in ("train", "held_out"):
            split = getattr(prepared, name)
            print(f"{name:<9} {split.documents:>9,} documents  {split.bytes:>13,} bytes  {split.tokens:>13,} tokens")
        print(f"yardstick {prepared.held_out.unigram_bits_per_byte:.3f} bits/byte (unigram entropy, held-out tokens)")
        print(f"shards    {prepared.folder}")
    return 0


def evaluate(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json")
    if _help(flags, "isoflop eval <run> [key=value ...] [--json]\n"):
        return 0
    from trainer.evaluate import held_out

    run, overrides = _run_and_overrides("eval", words)
    result = held_out(run, overrides)
    if "--json" in flags:
        print(json.dumps(result, indent=1))
    else:
        print(
            f"step {result['step']}: {result['bits_per_byte']:.4f} bits/byte on held-out text "
            f"(unigram yardstick {result['unigram_bits_per_byte']:.4f}, {result['below_unigram']:.1%} below it)"
        )
    return 0


def generate(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json")
    if _help(
        flags, "isoflop generate <run> [prompt='def '] [tokens=200] [temperature=0.8] [top_k=50] [seed=0] [--json]\n"
    ):
        return 0
    from trainer.evaluate import continue_text

    run, options = _run_and_overrides("generate", words)
    text = continue_text(run, options)
    print(json.dumps(text, indent=1) if "--json" in flags else text["prompt"] + text["text"])
    return 0


def report(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json")
    if _help(flags, "isoflop report <run> [--json]\n"):
        return 0
    from trainer.start import finish_report

    run, overrides = _run_and_overrides("report", words)
    if overrides:
        raise UserError(f"{overrides[0]}: report takes a run and no overrides")
    finish_report(run, as_json="--json" in flags)
    return 0


def import_(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json")
    usage = "isoflop import <folder of a Hugging Face checkpoint> to=<run folder> [generator=<folder>] [--json]\n"
    if _help(flags, usage):
        return 0
    from trainer.hub import import_run

    source, options = _hub_words("import", words, ("to", "generator"))
    generator = Path(options["generator"]) if "generator" in options else None
    _print_facts(import_run(source, Path(options.get("to") or f"runs/imported/{source.name}"), generator), flags)
    return 0


def export(arguments: list[str]) -> int:
    words, flags = _flags(arguments, "--json")
    if _help(flags, "isoflop export <run> to=<new folder> [tokenizer=yes|no] [--json]\n"):
        return 0
    from trainer.folder import find_run
    from trainer.hub import export_run

    run, options = _hub_words("export", words, ("to", "tokenizer"))
    if options.get("tokenizer", "yes") not in ("yes", "no"):
        raise UserError(f"export: tokenizer={options['tokenizer']} given, yes or no wanted")
    folder = find_run(str(run), "runs").path
    target = Path(options.get("to") or f"{folder.name}-hf")
    _print_facts(export_run(folder, target, tokenizer=options.get("tokenizer", "yes") == "yes"), flags)
    return 0


def _hub_words(verb: str, words: list[str], known: tuple[str, ...]) -> tuple[Path, dict[str, str]]:
    """The one folder that the words name, and the options."""
    options = dict(word.split("=", 1) for word in words if "=" in word and not Path(word).exists())
    names = [word for word in words if "=" not in word or Path(word).exists()]
    for name in sorted(set(options) - set(known)):
        raise UserError(f"{verb}: {name}: no such option{nearest(name, known)}; there is {', '.join(known)}")
    if len(names) != 1:
        raise UserError(f"{verb}: name one folder; got {' '.join(names) or 'none'}")
    return Path(names[0]), options


def _print_facts(facts: dict[str, object], flags: set[str]) -> None:
    if "--json" in flags:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(f"{name:<11} {value if value is not None else 'none'}" for name, value in facts.items()))


def _run_and_overrides(verb: str, words: list[str]) -> tuple[Path, list[str]]:
    """The run that the first word names (by path, `<experiment>/<id>` or `<id>`), and the rest."""
    from trainer.folder import find_run

    names = [word for word in words if "=" not in word or Path(word).is_dir()]
    if len(names) != 1:
        raise UserError(
            f"{verb}: name one run, e.g. isoflop {verb} runs/<experiment>/<id>; got {' '.join(names) or 'none'}"
        )
    return find_run(names[0], "runs").path, [word for word in words if word != names[0]]


def completion(arguments: list[str]) -> int:
    from trainer.completion import candidates, script

    if arguments and arguments[0] == "--words":
        print("\n".join(candidates(arguments[1:], list(VERBS))))
        return 0
    print(script(arguments[0] if arguments else "bash"))
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "plan": plan,
    "model": model,
    "data": data,
    "eval": evaluate,
    "generate": generate,
    "report": report,
    "import": import_,
    "export": export,
    "completion": completion,
}
