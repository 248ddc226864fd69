"""`isoflop help`: how to use a verb, what a key means, a page, or whatever has some words."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from trainer.cli.arguments import short_help, split_flags, wants_help
from trainer.cli.verbs import SECTIONS, TABLE, VERBS, listing
from trainer.utils.documentation import DOCS, about, pages, sections
from trainer.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from trainer.cli.finding import Found, Key

HELP = """\
isoflop help [verbs | <verb> | <key> | <page>.md[#section] | words ...] [--all]

  verbs        a line about each verb
  <verb>       its words and flags
  <key>        e.g. optim.lr: unit, default, bounds, choices, and the page about it
  <page>.md    prints a page of the documentation; pages: isoflop help pages
  words        verbs, keys, presets and pages with these words: isoflop help attention
  --all        everything that is found, in place of what fits a screen
"""
SHOWN = {"verb": 3, "key": 8, "value": 3, "preset": 4, "page": 4}  # with --all all of them
REFERENCE = "reference/"  # pages of the site that are made from the schema, and lie in no folder
HEADINGS = {"verb": "Verbs", "key": "Keys", "value": "Values", "preset": "Presets", "page": "Pages"}


def help_(arguments: list[str]) -> int:
    words, flags = split_flags(arguments, "--all")
    if wants_help(flags, HELP, keys=False):
        return 0
    print(_answer(words, whole="--all" in flags))
    return 0


def _answer(words: list[str], whole: bool) -> str:
    """Raises UserError where nothing is found, with the nearest words."""
    if words in ([], ["verbs"]):
        return listing()
    if words == ["pages"]:
        return "\n".join([str(DOCS), *(f"  {page:<34} {sections(page)[0].title}" for page in pages())])
    if len(words) == 1 and words[0] in TABLE:
        return _of_verb(words[0])
    if len(words) == 1 and ".md" in words[0]:
        return _page(words[0].removeprefix("docs/"))
    from trainer.cli.finding import keys, nearest_words, search

    if len(words) == 1 and (key := {one.name: one for one in keys()}.get(words[0])):
        return _of_key(key)
    found = search(words)
    if not found:
        near = nearest_words(words)
        hint = f" (did you mean {near!r}?)" if near and search(near.split()) else ""
        each = [word for word in words if len(words) > 1 and search([word])]
        fewer = f"; alone there is {', '.join(each)}" if each and not hint else ""
        raise UserError(f"help: {' '.join(words)}: nothing is found{hint}{fewer}; isoflop help verbs lists the verbs")
    return _table(found, " ".join(words), whole)


def _of_verb(name: str) -> str:
    """The verb's own help without the keys of the configuration."""
    sys.stdout.flush()
    with short_help() as said:
        VERBS[name](["--help"])
    lines = said.getvalue().rstrip().splitlines()
    verb = TABLE[name]
    section = next(one for one, verbs in SECTIONS.items() if name in verbs)
    beside = "  ".join(one for one in SECTIONS[section] if one != name)
    page = f"docs: {verb.page} (isoflop help {verb.page} prints it)"
    return "\n".join([f"{name}: {verb.does}", "", *lines, "", page, f"beside it: {beside}"])


def _page(name: str) -> str:
    """A page, or one section of it. Raises UserError where there is no such."""
    page, _, anchor = name.partition("#")
    if page.startswith(REFERENCE):
        return _reference(page.removeprefix(REFERENCE).removesuffix(".md"), anchor)
    if page not in pages():
        raise UserError(f"help: {page}: no such page{nearest(page, pages())}; there is {', '.join(pages())}")
    if not anchor:
        return (DOCS / page).read_text(encoding="utf-8").rstrip()
    there = {one.anchor: one for one in sections(page)[1:]}
    if anchor not in there:
        raise UserError(f"help: {page}: no section {anchor!r}{nearest(anchor, there)}; there is {', '.join(there)}")
    return f"{there[anchor].title}\n\n{there[anchor].text}"


def _reference(group: str, name: str) -> str:
    """What the site has as a page made from the schema: the groups, the verbs, the keys of a group, or one key. Raises
    UserError where there is no such."""
    from trainer.cli.finding import keys

    if group == "verbs":
        return listing()
    found: dict[str, list[Key]] = {}
    for key in keys():
        found.setdefault(key.name.split(".")[0], []).append(key)
    if group == "index":
        return "\n".join(f"  {REFERENCE}{one}.md  {len(of)} keys" for one, of in found.items())
    if group not in found:
        raise UserError(
            f"help: {REFERENCE}{group}.md: no such page{nearest(group, found)}; there is {', '.join(found)}"
        )
    if not name:
        return "\n\n".join(map(_of_key, found[group]))
    names = {key.name: key for key in found[group]}
    if name not in names:
        raise UserError(f"help: {REFERENCE}{group}.md: no key {name!r}{nearest(name, names)}")
    return _of_key(names[name])


def _of_key(key: Key) -> str:
    from trainer.config import SCIENCE
    from trainer.config.numerics import numerics_keys

    group = key.name.split(".")[0]
    kind = "science" if group in SCIENCE else "numerics" if key.name in numerics_keys() else "machinery"
    kind = "science of many runs" if group in ("ladder", "grid") else kind
    rows = {
        "choices": " | ".join(key.choices),
        "default": key.default,
        "unit": key.unit,
        "bounds": key.bounds,
        "kind": kind,
        "docs": about(key.name) or "",
    }
    return "\n".join([key.name, f"  {key.field.description}", *(f"  {n:<9}{v}" for n, v in rows.items() if v)])


def _table(found: list[Found], asked: str, whole: bool) -> str:
    """What was found by kind; every line fits the terminal."""
    width = sys.maxsize if whole else shutil.get_terminal_size((80, 24)).columns
    lines: list[str] = []
    for kind, most in SHOWN.items():
        ours = [one for one in found if one.kind == kind]
        shown = ours if whole else ours[:most]
        if not ours:
            continue
        more = f" ({len(shown)} of {len(ours)})" if len(shown) < len(ours) else ""
        lines.append(f"{HEADINGS[kind]}{more}")
        wide = max(len(one.name) for one in shown)
        said = [" ".join(filter(None, [one.facts and f"[{one.facts}]", one.sentence])) for one in shown]
        lines += [_cut(f"  {one.name:<{wide}}  {text}", width) for one, text in zip(shown, said, strict=True)]
    cut = len(lines) - sum(line[0] != " " for line in lines) < len(found)
    return "\n".join([*lines, *([f"all {len(found)}: isoflop help {asked} --all"] if cut else [])])


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 3].rstrip()}..."
