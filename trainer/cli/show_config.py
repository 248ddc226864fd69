"""`--cfg` and `--info`: the configuration of a run, and where it comes from, in place of the run."""

from __future__ import annotations

from typing import Any

from trainer.utils.errors import UserError, nearest

INFO = ("keys", "searchpath", "options")
FLAGS = ("--cfg", "-c", "--info", "-i", "--resolve", "--package", "-p")  # with values: take_values
MANY = {"-m", "--multirun"}


def take_values(arguments: list[str]) -> list[str]:
    """Words of which `--cfg job`, `--info keys` and `--package model` are one: `--cfg=job` and so on."""
    words: list[str] = []
    for word in arguments:
        before = words[-1] if words else ""
        takes = before in ("--package", "-p") or (before in FLAGS and word in (*INFO, "job", "hydra", "all"))
        if takes:
            words[-1] = f"{before}={word}"
        else:
            words.append(word)
    return words


def shown(words: list[str], flags: set[str]) -> bool:
    """Print what `--cfg` or `--info` asks for, if one of them is there. Raises UserError where it asks for nothing."""
    asked = {"-c": "--cfg", "-i": "--info", "-p": "--package"}
    given = {asked.get(name, name): value for name, _, value in (flag.partition("=") for flag in flags)}
    if "--cfg" not in given and "--info" not in given:
        if lost := [flag for flag in ("--resolve", "--package") if flag in given]:
            raise UserError(f"{lost[0]}: it says how --cfg prints; add --cfg")
        return False
    if flags & MANY:
        flag = "--cfg" if "--cfg" in given else "--info"
        raise UserError(f"{flag}: it shows the configuration of one run; leave -m out, and give each key one value")
    if "--cfg" in given:
        _print_config(words, given["--cfg"], given.get("--package", ""))
    else:
        _print_info(words, given["--info"])
    return True


def _print_config(words: list[str], which: str, package: str) -> None:
    """As YAML; interpolations are resolved always."""
    from trainer.run.start import composed

    if which not in ("", "job"):
        raise UserError(f"--cfg {which}: there is no configuration of Hydra's own; --cfg prints the run's")
    config = composed(words)[0]
    if not package:
        print(config.to_yaml(), end="")
        return
    import yaml

    part: Any = config.model_dump(mode="json")
    for name in package.split("."):
        if not isinstance(part, dict) or name not in part:
            known = list(part) if isinstance(part, dict) else []
            raise UserError(f"--package {package}: no such group{nearest(name, known)}")
        part = part[name]
    text = yaml.safe_dump(part, sort_keys=False, allow_unicode=True)
    print(text.removesuffix("...\n"), end="")  # which ends a value that stands alone


def _print_info(words: list[str], what: str) -> None:
    from trainer.compose import explained, groups
    from trainer.compose.sources import PRECEDENCE, sources

    if what not in ("", "all", *INFO):
        raise UserError(f"--info {what}: there is {', '.join(INFO)}{nearest(what, INFO)}")
    if what in ("searchpath", "all"):
        for source in sources():
            print(f"{source.layer:<12} {source.folder}")
    if what in ("options", "all"):
        for group, options in groups().items():
            print(f"{group}: {', '.join(options)}")
    if what in ("", "keys", "all"):
        if named := [word for word in words if word.startswith(("resume=", "from="))]:
            raise UserError(f"--info: {named[0]}: the values come from that run; --cfg shows them")
        rows = explained(words)
        wide = min(48, max(len(key) for key, _, _ in rows))
        print(f"# what counts, from the weakest to the strongest: default, {', '.join(PRECEDENCE)}")
        for key, value, who in rows:
            shown_value = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            print(f"{key:<{wide}}  {shown_value:<24}  {who}")
