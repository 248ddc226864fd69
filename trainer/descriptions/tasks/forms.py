"""Forms that files of prompts and answers come in, by the keys of a record."""

from __future__ import annotations

from typing import Literal, get_args

FormName = Literal["alpaca", "inputs_targets", "messages", "prompt_completion", "sharegpt", "tsv"]

# The keys that a record must have; it may have others too.
FORM_KEYS: dict[FormName, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),  # beside them `input`, which may be empty or missing
    "inputs_targets": ("inputs", "targets"),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "sharegpt": ("conversations",),
    "tsv": ("inputs", "targets"),  # the two columns of a file whose first line is a record already
}
UNNAMED: tuple[FormName, ...] = ("tsv",)  # no keys tell these: they are named
CONVERSATIONS: tuple[FormName, ...] = ("messages", "sharegpt")

assert set(FORM_KEYS) == set(get_args(FormName))


def listed() -> str:
    """The forms with their keys, for a person."""
    return ", ".join(f"{name} ({', '.join(keys)})" for name, keys in FORM_KEYS.items() if name not in UNNAMED)
