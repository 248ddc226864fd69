"""The verb about what all runs of a root cost."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.arguments import split_flags, wants_help
from trainer.utils.errors import UserError, nearest
from trainer.utils.home import expanded

if TYPE_CHECKING:
    from trainer.report.repricing import Elsewhere

USAGE = """isoflop ledger [root] [project=name] [site=...] [machine=...] [out=file.csv|.json|.tex] [--json]

What every experiment and every project (run.project) below a root cost: runs, also failed ones, evaluations and data.
  project=  only this one
  site=     priced as if all of it had been there; site.pue=1.2 and other keys alone: at each run's own site, with these
  machine=  as the same steps are planned on that machine
  out=      a table of the projects: CSV, JSON, or LaTeX (booktabs)
"""
PLACES = ("site", "machine")
OPTIONS = ("project", "out")


def ledger(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--json")
    if wants_help(flags, USAGE, keys=False):
        return 0
    from trainer.report.ledger_file import is_root
    from trainer.report.whole_ledger import ENDINGS, whole_ledger
    from trainer.utils.files import write_atomic

    roots, options, places = _read(words)
    root = Path(roots[0] if roots else "runs")
    out = expanded(options["out"]) if "out" in options else None
    if out is not None and out.suffix not in ENDINGS:
        raise UserError(f"out: {out}: a file that ends in {', '.join(ENDINGS)}{nearest(out.suffix, ENDINGS)}")
    if out is not None and not out.absolute().parent.is_dir():
        raise UserError(f"out: {out.parent}: no such folder")
    if not is_root(root):
        above = f"; did you mean {root.parent}?" if is_root(root.parent) else ""
        raise UserError(f"{root}: no runs here, <experiment>/<id>{above}")
    found = whole_ledger(root, _elsewhere(places), options.get("project"))
    if out is not None:
        command = shlex.join(["isoflop", "ledger", *arguments])
        write_atomic(out, found.file(out.suffix, command))
    print(json.dumps(found.to_json(), indent=1) if "--json" in flags else found.text())
    return 0


def _read(words: list[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """The root, the verb's own options, and what is said of another site or machine. Raises UserError."""
    roots, options, places = [], dict[str, str](), []
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or Path(word).is_dir():
            roots.append(word)
        elif name.split(".")[0] in PLACES:
            places.append(word)
        elif name not in OPTIONS:
            known = (*OPTIONS, *PLACES)
            raise UserError(f"ledger: {name}: no such option{nearest(name, known)}; there is {', '.join(known)}")
        elif name in options or not value:
            raise UserError(
                f"{name}: " + (f"given twice, {options[name]} and {value}" if value else "a value is missing")
            )
        else:
            options[name] = value
    if len(roots) > 1:
        raise UserError(f"ledger: name one root of runs, got {' '.join(roots)}")
    return roots, options, places


def _elsewhere(places: list[str]) -> Elsewhere | None:
    """The site and the machine that these words describe, or the keys that they change of each run's own."""
    from trainer.compose import compose
    from trainer.report.repricing import Elsewhere

    if not places:
        return None
    config, names = compose(places), [word.partition("=")[0] for word in places]
    site, machine = (_keys(getattr(config, group), group, names) for group in PLACES)
    return Elsewhere(
        config.site if "site" in names else None, config.machine if "machine" in names else None, site, machine
    )


def _keys(section: Any, group: str, names: list[str]) -> dict[str, Any]:
    """The values of the keys that the words give without choosing an option of their group."""
    parts = [] if group in names else [name.split(".")[1] for name in names if name.startswith(f"{group}.")]
    return {name: getattr(section, name) for name in parts}
