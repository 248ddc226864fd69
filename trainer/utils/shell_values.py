"""Types of configuration values that become words or lines of a shell or of a batch script."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from trainer.utils.schema import Paths
from trainer.utils.secrets import is_secret_name

LITERAL = re.compile(r"""\b([A-Za-z_]\w*)=["']?[^\s"'$`]""")  # name=value, where no shell looks the value up
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _without_secrets(lines: tuple[str, ...]) -> tuple[str, ...]:
    for name in (name for line in lines for name in LITERAL.findall(line) if is_secret_name(name)):
        raise ValueError(
            f"{name} looks like a secret, and this is written down; export it where you launch, or read it on the "
            f"nodes, e.g. {name}=$(cat file)"
        )
    return lines


def _options(options: tuple[str, ...]) -> tuple[str, ...]:
    for option in options:
        if not option.startswith("-"):
            raise ValueError(f"{option!r} is no option; they begin with dashes, e.g. ['--exclusive']")
    return options


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not VARIABLE.fullmatch(name):
            raise ValueError(f"names of variables wanted, without values; {name.partition('=')[0]!r} is none")
    return names


def _text(value: Any) -> Any:
    """A whole number as text. Of any other number it is no longer known how it was written: 3.10 is 3.1."""
    if type(value) is float:
        raise ValueError(f"{value!r} was read as a number, text wanted: put it in quotes")
    return str(value) if type(value) is int else value


Text = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int)]
ShellLines = Annotated[Paths, AfterValidator(_without_secrets)]
Options = Annotated[Paths, AfterValidator(_without_secrets), AfterValidator(_options)]
VariableNames = Annotated[Paths, AfterValidator(_names)]
