"""What there is to configure, as text: groups with their options, keys with unit, default and a sentence."""

from __future__ import annotations

from collections.abc import Container, Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.compose.sources import EXPERIMENT, groups
from trainer.config import MACHINERY, SCIENCE, Config, GridConfig, LadderConfig
from trainer.config.choice import Choosing
from trainer.config.numerics import RAW_NUMERICS, numerics_keys
from trainer.plugins import LOADED


def describe_keys() -> str:
    """The help text by the three kinds: groups with their options, keys with their unit, default and sentence."""
    options = groups()
    lines = ["", "Science (decides the outcome)"]
    for name in SCIENCE:
        lines += _described_group(name, options)
    lines += [
        "",
        "Numerics (arithmetic: changes the outcome within a spread; a tag of the run, no part of its identity)",
        "",
    ]
    for key_name in numerics_keys():
        group, _, name = key_name.partition(".")
        section = Config.model_fields[group].annotation
        assert isinstance(section, type) and issubclass(section, BaseModel)
        lines.append(_described_key(group, name, section.model_fields[name]))
    lines.append(f"    DeepSpeed's own, under engine.deepspeed: {', '.join(RAW_NUMERICS)}")
    lines += ["", "Machinery (decides speed, memory and price)"]
    for name in MACHINERY:
        lines += _described_group(name, options)
    experiments = "|".join(options.get(EXPERIMENT, []))
    lines += ["", f"  experiment={experiments}    a file of overrides; yours in <config directory>/experiment/"]
    return "\n".join([*lines, *_described_plugins()])


def _described_group(name: str, options: Mapping[str, list[str]]) -> list[str]:
    """A group of the configuration without its numerics, or a key that is in none."""
    field = Config.model_fields[name]
    section = field.annotation
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ["", f"  {name:<28} {field.default!s:<14} {field.description}"]
    if not section.model_fields:  # all its keys are those of plugins
        return []
    return _described(name, section, options, leave_out=numerics_keys())


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
    return "\n".join(["", "Ladder (a list of runs)", *_described("ladder", LadderConfig, groups()), ""])


def describe_grid() -> str:
    """The help text of a grid's own keys."""
    return "\n".join(_described("grid", GridConfig, groups()))


def _described(
    name: str, section: type[BaseModel], options: Mapping[str, list[str]], leave_out: Container[str] = ()
) -> list[str]:
    doc = (section.__doc__ or "").split("\n")[0]
    lines = ["", f"  {name}={'|'.join(options[name])}    {doc}" if name in options else f"  {name}    {doc}"]
    for one, field in section.model_fields.items():
        if f"{name}.{one}" not in leave_out:
            inside = field.annotation
            if isinstance(inside, type) and issubclass(inside, BaseModel):
                lines += [_described_key(f"{name}.{one}", part, key) for part, key in inside.model_fields.items()]
            else:
                lines.append(_described_key(name, one, field))
        if issubclass(section, Choosing) and one in section.CHOICES:
            lines += [f"      {choice:<30} {what.help}" for choice, what in section.CHOICES[one].items()]
    return lines


def _described_key(group: str, name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = f" [{extra['unit']}]" if isinstance(extra, dict) and extra.get("unit") else ""
    default = "null" if field.default is None else field.default
    return f"    {f'{group}.{name}':<32} {default!s:<12} {field.description}{unit}"
