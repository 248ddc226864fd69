"""From the command line to a checked configuration: the only file that imports Hydra. Ranks never do."""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.books.run_length import length_misfits
from trainer.books.size_dial import sized
from trainer.config import MACHINERY, SCIENCE, Config, GridConfig, GridRoot, LadderConfig, LadderRoot
from trainer.config.choice import UNREAD_TAKEN
from trainer.config.numerics import RAW_NUMERICS, numerics_keys
from trainer.config.upgrade import RENAMED
from trainer.config.validate import keys, section_of, validate
from trainer.utils.errors import UserError, nearest

CONF = Path(__file__).resolve().parent.parent / "conf"
NAME = "train"


def groups(conf: Path = CONF) -> dict[str, list[str]]:
    """Every config group and its options."""
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(conf.iterdir())
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }


class Override:
    """One `key=value` or `group=option` of the command line, in Hydra's grammar."""

    def __init__(self, text: str) -> None:
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.errors import HydraException

        if text.startswith("-") and "=" in text:
            raise UserError(f"{text}: overrides are written without dashes: {text.lstrip('-')}")
        try:
            parsed = OverridesParser.create().parse_override(text)
        except HydraException as error:
            first = next((line for line in str(error).splitlines() if line.strip()), "not understood")
            hint = f"; put the value in quotes: {text.partition('=')[0]}='...'" if "=" in text else "; write key=value"
            raise UserError(f"{text}: not an override in Hydra's grammar ({first.strip()}){hint}") from None
        if not parsed.key_or_group:
            raise UserError(f"{text}: no key; write key=value")
        self.text, self.key, self.parsed = text, parsed.key_or_group, parsed

    @property
    def is_group(self) -> bool:
        return "." not in self.key and self.key in {*groups(), "experiment"}

    @property
    def of_many(self) -> str:
        """The verb that takes it, where it describes many runs."""
        return {"ladder": "sweep", "grid": "grid"}.get(self.key.split(".")[0], "")

    @property
    def is_sweep(self) -> bool:
        return bool(self.parsed.is_sweep_override())

    @property
    def is_interval(self) -> bool:
        """Whether it sweeps all numbers between two."""
        return bool(self.parsed.is_interval_sweep())

    @property
    def full_key(self) -> str:
        """With its `+` or `~` and its package."""
        return str(self.parsed.get_key_element())

    def value(self) -> Any:
        return self.parsed.value()

    def values(self) -> list[Any]:
        """Every value of a sweep that lists them."""
        return list(self.parsed.sweep_iterator())

    def texts(self) -> list[str]:
        """The same as they are written in an override."""
        return list(self.parsed.sweep_string_iterator())

    def check(self) -> str | None:
        """What is wrong with the name of the group or of its option, if anything."""
        if self.is_group and not self.is_sweep and isinstance(self.value(), str):
            options = groups().get(self.key, [])
            if self.value() not in options:
                allowed = ", ".join(options[:12]) + (", ..." if len(options) > 12 else "") or "none yet"
                return f"{self.key}={self.value()}: no such option{nearest(self.value(), options)}; there is {allowed}"
        if self.is_sweep and hasattr(self.value(), "exclude"):
            return f"{self.text}: glob is not taken; name the options, with commas between them"
        known = [*groups(), "experiment", "hydra", *Config.model_fields]
        if self.key.split(".")[0].split("@")[0] not in known:
            return f"{self.key}: no such key{nearest(self.key, [*known, *keys()])}"
        return None

    def forced(self) -> str:
        """The same override, allowed also where the YAML files are silent: our schema is the judge of keys."""
        if self.is_group or self.text[0] in "+~":
            return self.text
        return f"++{self.text}"


def parse(texts: Iterable[str]) -> list[Override]:
    """All overrides, or a UserError that names every one that is wrong."""
    overrides, wrong = [], []
    for text in texts:
        try:
            overrides.append(Override(_by_new_name(text)))
        except UserError as error:
            wrong.append(str(error))
    wrong += [line for override in overrides if (line := override.check())]
    if wrong:
        raise UserError("\n".join(wrong))
    return overrides


def _by_new_name(text: str) -> str:
    """An override of a key that was renamed, by its name now; says so on standard error."""
    mark = text[: len(text) - len(text.lstrip("+~"))]
    key, equals, value = text[len(mark) :].partition("=")
    if key not in RENAMED:
        return text
    print(f"isoflop: {key} is {RENAMED[key]} now; the old name is read in this release only", file=sys.stderr)
    return f"{mark}{RENAMED[key]}{equals}{value}"


def compose(texts: Iterable[str], *, swept: bool = False) -> Config:
    """The configuration that these overrides describe, checked in full. Raises UserError with every error at once."""
    texts = list(texts)
    wrong: list[str] = []
    try:
        overrides = parse(texts)
    except UserError as error:  # remember, and look for more in the rest
        wrong += str(error).splitlines()
        overrides = [one for one in map(_parsed, map(_by_new_name, texts)) if one is not None and not one.check()]
    wrong += [_one_wanted(override) for override in overrides if override.is_sweep and not swept]
    wrong += [f"{o.text}: this is many runs; isoflop {o.of_many} takes it" for o in overrides if o.of_many]
    overrides = [override for override in overrides if not override.of_many]
    overrides = [override for override in overrides if not override.is_sweep]
    try:
        data = _composed([override.forced() for override in overrides])
    except UserError as error:
        raise UserError("\n".join([*wrong, str(error)])) from None
    given = {override.key for override in overrides}
    _one_budget(data, given)
    return sized(validate(data, wrong + _size_alone(given) + _ranks_once(given), rules=_countable))


def _countable(config: Config) -> list[str]:
    """What is wrong with a size or a length that has to be counted."""
    try:
        return length_misfits(sized(config))
    except ValueError as error:
        return str(error).splitlines()


def compose_ladder(texts: Iterable[str]) -> LadderConfig:
    """The ladder that `ladder=...` and `ladder.key=...` describe. Raises UserError with every error at once."""
    rules = ("tokens_per_parameter", "tokens", "flops")
    return validate({"ladder": _composed_many("ladder", texts, rules)}, schema=LadderRoot).ladder


def compose_grid(texts: Iterable[str]) -> GridConfig:
    """The grid that `grid=...` and `grid.key=...` describe. Raises UserError with every error at once."""
    return validate({"grid": _composed_many("grid", texts, GridConfig.BUDGETS)}, schema=GridRoot).grid


def _composed_many(group: str, texts: Iterable[str], one_of: tuple[str, ...]) -> dict[str, Any]:
    """A group that describes many runs; a key of `one_of` that is given takes the place of the file's own."""
    overrides = parse(texts)
    if not any(override.is_group for override in overrides):
        allowed = ", ".join(groups().get(group, []))
        raise UserError(f"{group}.*: name the {group} too, with {group}=...; there is {allowed}")
    words = [f"+{override.text}" if override.is_group else override.forced() for override in overrides]
    section: dict[str, Any] = _composed(words)[group]
    given = {override.key.removeprefix(f"{group}.") for override in overrides} & {*one_of}
    return {name: value for name, value in section.items() if not given or name in given or name not in one_of}


def _composed(texts: list[str]) -> dict[str, Any]:
    """Hydra's part: the default experiment with these overrides, as plain data. Raises UserError with Hydra's words."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="isoflop"):
            plain = OmegaConf.to_container(hydra_compose(NAME, texts), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_hydras_words(error)) from None
    return dict(plain)  # type: ignore[arg-type]


def _hydras_words(error: Exception) -> str:
    """On one line. Of a list for a mapping, or the reverse, Hydra itself does not say which of the two is wanted."""
    swapped = re.search(r"Cannot merge \w+ with \w+\s+full_key: (\S+)\s+object_type=(list|dict)", str(error.__cause__))
    if swapped:
        kinds = ["[a list]", "{name: value}"]
        wanted, given = kinds if swapped[2] == "list" else reversed(kinds)
        return f"{swapped[1]}: {given} given, {wanted} wanted"
    return " ".join(str(error).split())


def _parsed(text: str) -> Override | None:
    try:
        return Override(text)
    except UserError:
        return None


def _one_wanted(override: Override) -> str:
    """What to write in place of several values."""
    *path, name = override.key.split(".")
    field = section.model_fields.get(name) if path and (section := section_of(path, Config)) else None
    if field is not None and get_origin(field.annotation) is tuple:
        return f"{override.text}: a list is written in brackets: {override.key}=[{override.text.partition('=')[2]}]"
    return f"{override.text}: several values need -m (one run each)"


def _size_alone(given: set[str]) -> list[str]:
    """The size dial sets the shape: a shape beside it would be lost without a word."""
    if "model.size" not in given:
        return []
    shape = [f"model.{name}" for name in ("depth", "width", "heads", "kv_heads", "ffn_width", "generator_width")]
    return [f"{key}: model.size sets it; give one of the two" for key in shape if key in given]


def _ranks_once(given: set[str]) -> list[str]:
    if {"launch.processes", "launch.gpus_per_node"} <= given:
        return ["launch.processes: launch.gpus_per_node sets it; give one of the two"]
    return []


def _one_budget(plain: dict[str, Any], given: set[str]) -> None:
    """A budget on the command line takes the place of the default one."""
    stated = {key.removeprefix("budget.") for key in given if key.startswith("budget.")}
    if stated:
        plain["budget"] = {name: value for name, value in plain["budget"].items() if name in stated}


def change(base: Config, texts: Iterable[str]) -> Config:
    """An existing run's configuration with overrides on top. Raises UserError."""
    from omegaconf import OmegaConf

    overrides = parse(texts)
    plain = OmegaConf.create(base.model_dump(mode="json"))
    for override in overrides:
        if override.is_sweep:
            raise UserError(f"{override.text}: one run can be resumed with one value only")
        if override.is_group:
            OmegaConf.update(plain, override.key, _composed([override.text])[override.key], merge=False)
        else:
            OmegaConf.update(plain, override.key, override.value(), force_add=True)
    data: dict[str, Any] = dict(OmegaConf.to_container(plain, resolve=True))  # type: ignore[arg-type]
    given = {override.key for override in overrides}
    _one_budget(data, given)
    if "launch.processes" in given and "launch.gpus_per_node" not in given:
        data["launch"]["gpus_per_node"] = None  # it would set the number again

    def unread(config: Config) -> list[str]:
        """What the run began with may be left unread, what is given now may not."""
        found = config.unread().items()
        return [line for key, line in found if key in given or key.split(".")[0] in given]

    return sized(
        validate(
            data, _ranks_once(given), rules=lambda config: [*_countable(config), *unread(config)], context=UNREAD_TAKEN
        )
    )


def sweep(texts: list[str]) -> list[list[str]]:
    """The runs of a multirun: the product of all sweeps in the overrides, in Hydra's order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    endless = [
        f"{one.text}: an interval lists no values; search=optuna draws from it"
        for one in parse(texts)
        if one.is_interval
    ]
    if endless:
        raise UserError("\n".join(endless))
    batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(texts), None)
    return [list(run) for batch in batches for run in batch]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values."""
    result: dict[str, tuple[Any, Any]] = {}
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            result |= differences(before, after, f"{prefix}{name}.")
        elif before != after:
            result[prefix + name] = (before, after)
    return result


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
    return "\n".join(lines)


def _described_group(name: str, options: Mapping[str, list[str]]) -> list[str]:
    """A group of the configuration without its numerics, or a key that is in none."""
    field = Config.model_fields[name]
    section = field.annotation
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ["", f"  {name:<28} {field.default!s:<14} {field.description}"]
    return _described(name, section, options, leave_out=numerics_keys())


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
    keys = section.model_fields.items()
    return lines + [_described_key(name, one, field) for one, field in keys if f"{name}.{one}" not in leave_out]


def _described_key(group: str, name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = f" [{extra['unit']}]" if isinstance(extra, dict) and extra.get("unit") else ""
    default = "null" if field.default is None else field.default
    return f"    {f'{group}.{name}':<32} {default!s:<12} {field.description}{unit}"
