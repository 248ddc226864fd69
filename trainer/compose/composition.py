"""From the command line to a checked configuration. Ranks never compose: they read what was frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_origin

from trainer.books.run_length import length_misfits
from trainer.books.size_dial import sized
from trainer.books.window import window_misfits
from trainer.compose.interpolations import check_interpolations
from trainer.compose.overrides import Override, by_new_name, parse
from trainer.compose.reading import Origin, origins, read
from trainer.compose.remembered import remembered, with_remembered
from trainer.compose.sources import DIRECTORY, EXPERIMENT, PACKAGE, groups, sources
from trainer.compose.tracker_options import TRACKER_GROUP
from trainer.config import Config, GridConfig, GridRoot, LadderConfig, LadderRoot
from trainer.config.choice import UNREAD_TAKEN
from trainer.config.raw_keys import raw_key_misfits
from trainer.config.tokenizer_file import with_rows
from trainer.config.validate import is_text, section_of, validate
from trainer.utils.errors import UserError
from trainer.utils.hydra_names import hydras_own
from trainer.utils.secrets import secret_shape, secret_variables, secrets_in

ROWS = "model.vocabulary"


def compose(texts: Iterable[str], *, swept: bool = False, alone: bool = False) -> Config:
    """The configuration that these overrides describe, checked in full. Raises UserError with every error at once.
    alone: without what the user has remembered (`isoflop config`)."""
    texts = list(texts)
    wrong: list[str] = []
    try:
        overrides = parse(texts)
    except UserError as error:  # remember, and look for more in the rest
        wrong += str(error).splitlines()
        overrides = [one for one in map(_parsed, map(by_new_name, texts)) if one is not None and not one.check()]
    wrong += [_one_wanted(override) for override in overrides if override.is_sweep and not swept]
    wrong += [f"{o.text}: this is many runs; isoflop {o.of_many} takes it" for o in overrides if o.of_many]
    overrides = [override for override in overrides if not override.of_many]
    overrides = [override for override in overrides if not override.is_sweep]
    try:
        overrides = overrides if alone else completed(overrides)
        data = read(overrides)
        said = origins(overrides) if own_files(overrides) else {}
        wrong += _misplaced(said)
        data.pop(EXPERIMENT, None)
        _texts_as_written(data, said)
        wrong += _secrets(overrides, data, said)
    except UserError as error:
        raise UserError("\n".join([*wrong, str(error)])) from None
    given, stated = {override.key for override in overrides}, {o.key for o in overrides}
    stated |= {key for key, origin in said.items() if origin.layer == EXPERIMENT}
    _one_budget(data, given if any(key.startswith("budget.") for key in given) else stated)
    try:
        return sized(with_rows(validate(data, wrong + _size_alone(stated) + _ranks_once(stated), rules=_readable)))
    except UserError as error:
        raise UserError("\n".join(_by_place(str(error).splitlines(), said))) from None


def completed(overrides: Sequence[Override]) -> list[Override]:
    """The overrides, with what the user has remembered and neither they nor a file of the run say otherwise."""
    if not remembered():
        return [*overrides]
    theirs: dict[str, Origin] = {}
    chosen: set[str] = set()
    if any(one.key == EXPERIMENT for one in overrides) or any(source.layer == DIRECTORY for source in sources()):
        theirs = {key: said for key, said in origins(overrides).items() if said.layer in (DIRECTORY, EXPERIMENT)}
        others = [one for one in overrides if one.key != EXPERIMENT]
        changed = differences(read(others), read(overrides))  # by the experiment, which may choose files of groups
        chosen = {key.partition(".")[0] for key in changed if key not in theirs}
        chosen |= {key.partition(".")[0] for key, said in theirs.items() if said.layer == DIRECTORY}
    return with_remembered(overrides, chosen, theirs)


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def prefixes(key: str) -> list[str]:
    """The key and what it is part of, longest first."""
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def own_files(overrides: Sequence[Override]) -> bool:
    """Whether a file beside the package's may be part of the configuration."""
    return len(sources()) > 1 or any(one.file is not None or one.key == EXPERIMENT for one in overrides)


def _misplaced(said: Mapping[str, Origin]) -> list[str]:
    """Keys of files that would have no effect: Hydra's own, and those of an experiment that forgot its first line."""
    wrong = []
    for key, origin in said.items():
        if key.startswith("hydra."):
            wrong.append(f"{origin.place}: {hydras_own(key, key)}")
        if key.startswith(f"{EXPERIMENT}."):
            wrong.append(
                f"{origin.file}: begin it with the line `# @package _global_`: its keys are those of all groups"
            )
    return list(dict.fromkeys(wrong))


def _texts_as_written(data: dict[str, Any], said: Mapping[str, Origin]) -> None:
    """Put back, where text is wanted, what YAML read as another thing in a file: 3.10, 1:30:00, 007, 12e4567."""
    for key, value in flat(data).items():
        origin = said.get(key)
        if isinstance(value, int | float) and origin is not None and origin.written is not None and is_text(key):
            *path, name = key.split(".")
            section = data
            for part in path:
                section = section[part]
            section[name] = origin.written


def _secrets(overrides: Sequence[Override], data: Mapping[str, Any], said: Mapping[str, Origin]) -> list[str]:
    """A line for each key whose value is a secret: all of a configuration is written down."""
    written = {one.key: one.text for one in overrides} | {k: one.written for k, one in said.items() if one.written}
    way_out = "this is written down; export it where you launch, and name it in launch.pass_environment"
    wrong = [f"{key}: reads ${name}, and {way_out}" for key, text in written.items() for name in secret_variables(text)]
    named = {line.partition(":")[0] for line in wrong}
    for key, value in flat(data).items():
        texts = [text for text in (key, *(value if isinstance(value, list) else [value])) if isinstance(text, str)]
        if key in named:
            continue
        wrong += [f"{key}: holds the value of ${name}, and {way_out}" for text in texts for name in secrets_in(text)]
        wrong += [f"{key}: holds {shape}, and {way_out}" for text in texts if (shape := secret_shape(text))]
    return wrong


def _by_place(lines: Sequence[str], said: Mapping[str, Origin]) -> list[str]:
    """A line about a key that a file of the user's sets, with that file and its line before it."""
    placed = []
    for line in lines:
        origin = next((said[part] for part in prefixes(line.partition(":")[0]) if part in said), None)
        theirs = origin is not None and origin.file is not None and origin.layer != PACKAGE
        placed.append(f"{origin.place}: {line}" if theirs and origin else line)
    return placed


def _readable(config: Config) -> list[str]:
    """What is wrong with raw keys, an existing tokenizer, or else with what has to be counted."""
    raw = raw_key_misfits(config.engine.deepspeed)
    try:
        return [*raw, *_one_device(config), *_countable(with_rows(config)), *window_misfits(config)]
    except UserError as error:
        return [str(error)]


def _one_device(config: Config) -> list[str]:
    """A GPU's datasheet says nothing of a run on processors."""
    if config.engine.device != "cpu" or config.machine.architecture is None:
        return []
    return [
        f"engine.device: cpu given, and machine={config.machine.name} is a GPU, whose speed and power are not a "
        "processor's; leave out one of the two"
    ]


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
        whose = f"{group}.*: name the {group} too" if overrides else f"{group}: name one"
        raise UserError(f"{whose}, with {group}=...; there is {allowed}")
    section: dict[str, Any] = read(overrides)[group]
    given = {override.key.removeprefix(f"{group}.") for override in overrides} & {*one_of}
    return {name: value for name, value in section.items() if not given or name in given or name not in one_of}


def _parsed(text: str) -> Override | None:
    try:
        return Override(text)
    except UserError:
        return None


def _one_wanted(override: Override) -> str:
    """What to write in place of several values."""
    *path, name = override.key.split(".")
    field = section.model_fields.get(name) if path and (section := section_of(path, Config)) else None
    if override.key == TRACKER_GROUP or (field is not None and get_origin(field.annotation) is tuple):
        return f"{override.text}: a list is written in brackets: {override.key}=[{override.text.partition('=')[2]}]"
    return f"{override.text}: several values need -m (one run each)"


def _size_alone(given: set[str]) -> list[str]:
    """The size dial sets the shape: a shape beside it would be lost without a word."""
    if "model.size" not in given:
        return []
    names = ("depth", "decoder_depth", "width", "heads", "kv_heads", "ffn_width", "generator_width", "generator_depth")
    shape = [f"model.{name}" for name in names]
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
    plain, given = OmegaConf.create(base.model_dump(mode="json")), {override.key for override in overrides}
    for override in overrides:
        if override.is_sweep:
            raise UserError(f"{override.text}: one run can be resumed with one value only")
        for key, value in _said_by(override).items():
            OmegaConf.update(plain, key, value, merge=False, force_add=True)
            given.add(key)
    check_interpolations(OmegaConf.to_container(plain, resolve=False))  # type: ignore[arg-type]
    data: dict[str, Any] = dict(OmegaConf.to_container(plain, resolve=True))  # type: ignore[arg-type]
    for override in overrides:
        if override.deletes:
            _delete(data, override.key)
    _one_budget(data, given)
    if "launch.processes" in given and "launch.gpus_per_node" not in given:
        data["launch"]["gpus_per_node"] = None  # it would set the number again

    def rules(config: Config) -> list[str]:
        """What the run began with may be left unread, what is given now may not."""
        found = config.unread().items()
        timed = window_misfits(config) if any(key.startswith(("site", "launch")) for key in given) else []
        return [
            *raw_key_misfits(config.engine.deepspeed),
            *_one_device(config),
            *_countable(config),
            *timed,
            *(line for key, line in found if key in given or key.split(".")[0] in given),
        ]

    wrong = _ranks_once(given) + _secrets(overrides, data, {})
    return sized(validate(data, wrong, rules=rules, context=UNREAD_TAKEN))


def _said_by(override: Override) -> dict[str, Any]:
    """What an override puts into a configuration that is there: by its key a value or a whole group; of an experiment
    the groups that it chooses, then its keys."""
    if override.deletes:
        return {}
    if not override.is_group:
        return {override.key: override.value()}
    composed = read([override])
    if override.key != EXPERIMENT:
        return {override.key: composed.get(override.key, {})}
    if override.value() is None:
        return {}
    usual, values = read([]), flat(composed)
    keys = {key for key, origin in origins([override]).items() if origin.layer == EXPERIMENT}
    chosen = {key.partition(".")[0] for key in differences(usual, composed) if key not in keys}
    return {group: composed[group] for group in chosen} | {key: values[key] for key in keys if key in values}


def _delete(plain: dict[str, Any], key: str) -> None:
    """Take a key out of nested mappings, if it is there: the schema's default holds."""
    *path, name = key.split(".")
    for part in path:
        plain = plain.get(part, {})
    plain.pop(name, None)


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
