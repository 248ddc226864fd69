"""Every command that a page shows has a verb that there is, options of that verb, and a configuration that holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.commands import ROOT, Command, check, commands
from trainer.utils.errors import UserError

ELSEWHERE = ("docs/extending.md",)  # keys of code that its page shows: tests/extending runs them
# What a page shows because it is refused, and what needs a file that the reader has.
LEFT_OUT = ("plan site=norway", "train model=path/to/mine.yaml", "sweep ladder=chinchilla ladder.lr={law:")
READ_FIRST = ("README.md", "docs/index.md", "docs/tutorial.md", "docs/faq.md", "docs/how-to/")
PAGES = {str(page.relative_to(ROOT)): page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
COMMANDS = {name: commands(page) for name, page in PAGES.items() if name not in ELSEWHERE}


def wrong(found: list[Command]) -> list[str]:
    """A line for each command that is none."""
    lines = []
    for command in found:
        if " ".join(command.words).startswith(LEFT_OUT):
            continue
        try:
            check(command)
        except (UserError, AssertionError) as error:
            lines.append(f"{command}\n    {error}")
    return lines


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.startswith(READ_FIRST) else pytest.mark.slow)
        for name, found in COMMANDS.items()
        if found
    ],
)
def test_every_command_of_a_page_is_one(name: str) -> None:
    assert not (lines := wrong(COMMANDS[name])), "\n".join(lines)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("isoflop trian model=bert-base", "trian: no such verb"),
        ("isoflop train modl=bert-base", "modl"),
        ("isoflop train model.dpeth=3", "did you mean 'model.depth'"),
        ("isoflop train model=bert-bse", "did you mean 'bert-base'"),
        ("isoflop generate <run> promt='def '", "promt"),
        ("isoflop plan && isoflop train optim.lr=-1", "optim.lr"),
        ("isoflop sweep ladder=cpu ladder.szies=[1m]", "did you mean 'ladder.sizes'"),
    ],
)
def test_what_is_no_command_is_found(tmp_path: Path, line: str, said: str) -> None:
    for block in (f"```bash\n{line}\n```", f"```console\n$ {line}\nits output\n```", f"Text:\n\n    {line}   # why\n"):
        page = ROOT / "docs" / "none.md"
        found = [Command(page.name, 1, tuple(words)) for words in _words(block)]
        (told,) = wrong(found)
        assert said in told


def _words(text: str) -> list[list[str]]:
    from tests.docs.commands import lines_of_shell, split

    return [words for _, line in lines_of_shell(text) for words in split(line)]


def test_the_pages_show_many() -> None:
    """So that a change of how pages are read does not make this file say nothing."""
    assert sum(map(len, COMMANDS.values())) > 200
    assert all(COMMANDS[name] for name in ("README.md", "docs/tutorial.md", "docs/faq.md"))
