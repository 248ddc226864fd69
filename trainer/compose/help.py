"""What there is to configure, as text: groups with their options, keys with their value, a sentence and their unit."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.books.left_open import left_open
from trainer.compose.branched import compose
from trainer.compose.overrides import parse
from trainer.compose.reading import read
from trainer.compose.site_table import GROUP as SITES
from trainer.compose.site_table import regions
from trainer.compose.sources import EXPERIMENT, groups
from trainer.config import MACHINERY, SCIENCE, Config, GridConfig, LadderConfig
from trainer.config.choice import Choosing
from trainer.config.numerics import RAW_NUMERICS, numerics_keys
from trainer.plugins import LOADED
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class Values:
    """What keys hold under some words, and what those that are null or auto come to."""

    plain: Mapping[str, Any]
    open: Mapping[str, Any]
    note: str = ""

    def text(self, key: str, field: FieldInfo) -> str:
        """The value; of one that is null or auto what it comes to, where that is known: `16 (null)`."""
        value: Any = self.plain
        for name in key.split("."):
            value = value.get(name, field.default) if isinstance(value, Mapping) else field.default
        return f"{written(self.open[key])} ({written(value)})" if key in self.open else written(value)


def written(value: Any) -> str:
    """As a person writes it behind a key."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}: {written(one)}" for name, one in value.items()) + "}"
    return repr(value) if value == "" else str(value)


def values_under(words: Sequence[str]) -> Values:
    """The values that a run of these words would have; where the words are wrong or not yet enough, what they say so
    far, with a note."""
    try:
        config = compose(words, swept=True)
        return Values(config.model_dump(mode="json"), left_open(config))
    except UserError as error:
        note = f"of these words no run can be made yet: {'; '.join(str(error).splitlines())}"
    try:
        return Values(read([one for one in parse(words) if not one.is_sweep]), {}, note)
    except UserError:
        return Values(Config().model_dump(mode="json"), {}, f"{note}; the values are those without them")


def values_of(config: Config) -> Values:
    return Values(config.model_dump(mode="json"), left_open(config))


def describe_keys(words: Sequence[str] = (), values: Values | None = None, notes: Sequence[str] = ()) -> str:
    """The help text by the three kinds: groups with their options, keys with the value that holds under these words,
    its unit, and their sentence. notes: of what was given and does not count."""
    options, values = _in_short(groups()), values or values_under(words)
    under = f" with {' '.join(words)}" if words else ""
    lines = [
        "",
        f"Values are those that hold here{under}; `16 (null)` is left null and comes to 16",
    ]
    lines += [*notes, *([values.note] if values.note else [])]
    lines += ["", "Science (decides the outcome)"]
    for name in SCIENCE:
        lines += _described_group(name, options, values)
    lines += [
        "",
        "Numerics (arithmetic: changes the outcome within a spread; a tag of the run, no part of its identity)",
        "",
    ]
    for key_name in numerics_keys():
        group, _, name = key_name.partition(".")
        section = Config.model_fields[group].annotation
        assert isinstance(section, type) and issubclass(section, BaseModel)
        lines.append(_described_key(group, name, section.model_fields[name], values))
    lines.append(f"    DeepSpeed's own, under engine.deepspeed: {', '.join(RAW_NUMERICS)}")
    lines += ["", "Machinery (decides speed, memory and price)"]
    for name in MACHINERY:
        lines += _described_group(name, options, values)
    experiments = "|".join(options.get(EXPERIMENT, []))
    lines += ["", f"  experiment={experiments}    a file of overrides; yours in <config directory>/experiment/"]
    return "\n".join([*lines, *_described_plugins()])


def _in_short(options: dict[str, list[str]]) -> dict[str, list[str]]:
    """The options of every group, rows of the table of sites in one word (`--info options` lists them)."""
    files = [name for name in options[SITES] if name not in regions()]
    return {**options, SITES: [*files, "<country>-<year>", "gcp-<region>-<year>"]}


def _described_group(name: str, options: Mapping[str, list[str]], values: Values) -> list[str]:
    """A group of the configuration without its numerics, or a key that is in none."""
    field = Config.model_fields[name]
    section = field.annotation
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ["", f"  {name:<28} {values.text(name, field):<14} {field.description}"]
    if not section.model_fields:  # all its keys are those of plugins
        return []
    return _described(name, section, options, values, leave_out=numerics_keys())


def _described_plugins() -> list[str]:
    """What each loaded plugin brought, by name."""
    lines = []
    for plugin in LOADED.values():
        whose = f"{plugin.distribution} {plugin.version}" if plugin.distribution else plugin.source
        brought = ", ".join(f"{kind} {name}" for kind, names in plugin.brings.items() for name in names)
        lines.append(f"  {plugin.module:<28} {brought} ({whose})")
    return ["", "Plugins", *lines] if lines else []


def describe_ladder() -> str:
    """The help text of a ladder's own keys."""
    return "\n".join(["", "Ladder (a list of runs)", *_described("ladder", LadderConfig, groups(), Values({}, {})), ""])


def describe_grid() -> str:
    """The help text of a grid's own keys."""
    return "\n".join(_described("grid", GridConfig, groups(), Values({}, {})))


def _described(
    name: str,
    section: type[BaseModel],
    options: Mapping[str, list[str]],
    values: Values,
    leave_out: Container[str] = (),
) -> list[str]:
    doc = (section.__doc__ or "").split("\n")[0]
    lines = ["", f"  {name}={'|'.join(options[name])}    {doc}" if name in options else f"  {name}    {doc}"]
    for one, field in section.model_fields.items():
        if f"{name}.{one}" not in leave_out:
            inside = field.annotation
            if isinstance(inside, type) and issubclass(inside, BaseModel):
                lines += [
                    _described_key(f"{name}.{one}", part, key, values) for part, key in inside.model_fields.items()
                ]
            else:
                lines.append(_described_key(name, one, field, values))
        if issubclass(section, Choosing) and one in section.CHOICES:
            lines += [f"      {choice:<30} {what.help}" for choice, what in section.CHOICES[one].items()]
    return lines


def _described_key(group: str, name: str, field: FieldInfo, values: Values) -> str:
    extra = field.json_schema_extra
    unit = f" [{extra['unit']}]" if isinstance(extra, dict) and extra.get("unit") else ""
    return f"    {f'{group}.{name}':<32} {values.text(f'{group}.{name}', field):<12} {field.description}{unit}"
