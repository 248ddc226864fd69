"""What is secret, by the name of its variable, by its value and by its shape, however a file or a shell spells it."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from functools import cache
from urllib.parse import quote, quote_plus

from trainer.utils.errors import UserError

SHORTEST = 8  # characters; shorter values are words, not secrets
SHORTEST_LINE = 20  # characters of a line of a value of many lines, which alone tells it

# Words that make a name secret wherever they stand (PGPASSWORD), at the end of a piece (GITHUBTOKEN, APIKEY), or as a
# piece of their own (DB_PASS, GITHUB_PAT). TOKENIZERS_PARALLELISM, MAX_TOKENS, MONKEY and PATH are none.
_ANYWHERE = "PASSWORD|PASSWD|PASSPHRASE|PASSCODE|SECRET|CREDENTIAL|SSHPASS"
_AT_THE_END = (
    "TOKEN|PWD|(?:API|ACCESS|ACCOUNT|AUTH|ENCRYPTION|GPG|LICENSE|MASTER|PRIVATE|SERVICE|SIGNING|SSH|STORAGE)_?KEY"
)
_ALONE = "KEY|PAT|PASS|AUTH"
SECRET_NAME = re.compile(rf"{_ANYWHERE}|(?:{_AT_THE_END})(?![A-Z])|(?:^|_)(?:{_ALONE})(?:$|_)", re.IGNORECASE)
# A folder of a shell, and what says where a secret lies.
_PLAIN_NAME = re.compile(r"(OLD|INIT_)?PWD|.*_(FILE|PATH|DIR|SOCK)", re.IGNORECASE)

# What is secret by its shape: keys that services give out, private keys, passwords in addresses.
_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{40,}|glpat-[\w-]{20,}|sk-[\w-]{20,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,})|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|://[^/\s:@]*:[^/\s@$]+@"
)
ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*([A-Za-z_]\w*)")


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return not _PLAIN_NAME.fullmatch(name) and bool(SECRET_NAME.search(name))


def secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that are secret by their names, with values that are long enough to be looked for."""
    return {n: value for n, value in environment.items() if is_secret_name(n) and len(value.strip()) >= SHORTEST}


@cache
def spellings(value: str) -> set[str]:
    """Every way in which a shell, JSON, YAML or an address writes a value, and its long lines each."""
    value = value.strip()
    lines = [line.strip() for line in value.splitlines()]
    found = {value, *(line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith("-----"))}
    for one in (value, *found):
        found |= {json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1], repr(one)[1:-1]}
        found |= {shlex.quote(one), shlex.quote(one)[1:-1] if shlex.quote(one) != one else one}
        found |= {one.replace("'", "''"), quote(one), quote(one, safe=""), quote_plus(one)}
    return {one for one in found if len(one) >= SHORTEST}


def secrets_in(text: str) -> list[str]:
    """Names of the variables of the environment whose secret values a text holds, in any spelling."""
    return [name for name, value in secrets().items() if any(one in text for one in spellings(value))]


def refuse_secrets(texts: Mapping[str, str]) -> None:
    """Raise UserError where a text that is about to be written holds the value of a secret variable."""
    for what, text in texts.items():
        for name in secrets_in(text):
            raise UserError(
                f"{what} would hold the value of ${name}; name the variable in launch.pass_environment instead"
            )


def without_secrets(text: str) -> str:
    """The text with the variable's name in place of its value."""
    for name, value in secrets().items():
        for one in sorted(spellings(value), key=len, reverse=True):
            text = text.replace(one, f"${name}")
    return text


def secret_shape(text: str) -> str | None:
    """How a text that is secret by its shape begins, for a message; null where it is not."""
    found = _SHAPES.search(text)
    if found is None:
        return None
    return "a password in an address" if "://" in found[0] else f"what looks like a secret ({found[0][:4]}...)"


def secret_variables(text: str) -> list[str]:
    """Secret variables that an interpolation of this text reads, as in ${oc.env:PGPASSWORD}."""
    return [name for name in ENVIRONMENT.findall(text) if is_secret_name(name)]
