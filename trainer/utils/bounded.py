"""What comes from outside, read within bounds: plain files of a limited size, YAML and JSON that stay small.

What is refused here would cost minutes or all memory: devices and pipes, aliases that multiply, deep nesting, numbers
of thousands of digits. Every refusal is a UserError of one line, told after a time that the limits bound.
"""

from __future__ import annotations

import errno
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from trainer.utils.errors import UserError

YAML_BYTES = 1 << 18  # of a file that a person writes: PyYAML reads about 100 kB a second
JSON_BYTES = 1 << 28  # tokenizers of 256,000 pieces are 30 MB
WORD = 20_000  # characters of an override: Hydra's grammar reads about as many a second
NODES = 20_000  # of a YAML document, each alias counted as what it stands for
DEPTH = 50  # brackets in brackets
DIGITS = 100  # of a number; the largest double has 309, and nothing that is counted here has 30

_NUMBER = re.compile(rf"\d[\d_:.]{{{DIGITS},}}|0[xob][\da-fA-F_]{{{DIGITS},}}")
_C_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: Path, at_most: int = JSON_BYTES) -> bytes:
    """The content of a plain file. Raises UserError where it is missing, is none, or has more bytes than that."""
    if wrong := no_file(path):
        raise UserError(f"{path}: {wrong}")
    try:
        with open(path, "rb") as file:
            content = file.read(at_most + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    if len(content) > at_most:
        raise UserError(f"{path}: larger than {at_most / 2**20:g} MiB, the most that is read of such a file")
    return content


def no_file(path: Path) -> str | None:
    """What is there in place of a plain file, in words, or null. It opens nothing: a pipe would wait for its writer."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "there is no such file" if error.errno == errno.ENOENT else str(error.strerror)
    except ValueError as error:  # a zero byte in the name
        return f"no name of a file ({error})"
    return next((f"{what} given, a file wanted" for test, what in _KINDS if test(mode)), None)


def read_text(path: Path, at_most: int = JSON_BYTES) -> str:
    """The text of a plain file in UTF-8. Raises UserError as `read_bytes`, and where it is no text."""
    try:
        return read_bytes(path, at_most).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no text in UTF-8 ({error.reason})") from None


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    """As `json.loads`, but what is nested too deeply for Python is a ValueError too, as all that is no JSON."""
    try:
        return json.loads(text, **hooks)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, **hooks: Any) -> Any:
    """The content of a JSON file. Raises UserError as `read_text`, and where it is no JSON."""
    try:
        return parse_json(read_text(path), **hooks)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: no JSON: {error}") from None


def read_yaml(path: Path, loader: type = _C_LOADER) -> Any:
    """The content of a YAML file. Raises UserError as `read_text` and `check_yaml`, and where it is no YAML."""
    text = read_text(path, YAML_BYTES)
    check_yaml(text, str(path))
    try:
        return yaml.load(text, loader)  # a SafeLoader  # nosec B506
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # a date without such a month, a number that Python does not convert
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None


def check_yaml(text: str, name: str) -> None:
    """Raises UserError where reading this text would build too much: by its size, nesting, aliases or numbers.

    What is no YAML passes, up to where it ends: its reader says so.
    """
    if len(text) > YAML_BYTES:
        raise UserError(f"{name}: larger than {YAML_BYTES >> 10} KiB, the most that is read of YAML")
    if not text:
        raise UserError(f"{name}: the file is empty")
    sizes: dict[str | None, int] = {}  # of each anchor, aliases in it expanded
    open_anchors: list[str | None] = []
    open_sizes = [0]
    for event in _events(text):
        place = f"{name}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in open_anchors:
                raise UserError(f"{place}: *{event.anchor} stands inside of what it names")
            open_sizes[-1] += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            if wrong := long_number(event.value) if event.implicit[0] else deep(event.value):
                raise UserError(f"{place}: {wrong}")
            open_sizes[-1] += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_anchors.append(event.anchor)
            open_sizes.append(1)
            if len(open_anchors) > DEPTH:
                raise UserError(f"{place}: nested more than {DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_anchors.pop(), open_sizes.pop()
            open_sizes[-1] += size
            if anchor:
                sizes[anchor] = size
        if open_sizes[-1] > NODES:
            raise UserError(f"{place}: more than {NODES:,} values, with those that aliases repeat")


def _events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_C_LOADER)
    except yaml.YAMLError:
        return


def check_word(text: str) -> str | None:
    """What would make one word of a command line slow or endless to parse, or null."""
    if len(text) > WORD:
        return f"a word of {len(text):,} characters, and at most {WORD:,} are read; write a file, and name it"
    return long_number(text)


def deep(text: str) -> str | None:
    """A word about brackets in brackets in brackets, or null."""
    depth = 0
    for found in re.finditer(r"[\[{(]|[\]})]", text):
        depth = depth + 1 if found[0] in "[{(" else max(0, depth - 1)
        if depth > DEPTH:
            return f"brackets are nested more than {DEPTH} deep"
    return None


def long_number(text: str) -> str | None:
    """A word about a number of more digits than anything has, or null."""
    found = _NUMBER.search(text)
    return f"a number of {len(found[0]):,} digits; at most {DIGITS} are read" if found else deep(text)


def whole_number(text: str) -> int | None:
    """The number from 0 on that a word is, in plain digits and below 10^18; else null."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None
