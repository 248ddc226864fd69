"""Hydra's part: files and overrides to plain data, and which of them said what."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from trainer.compose.interpolations import check_interpolations
from trainer.compose.overrides import Override
from trainer.compose.remembered import Remembered, remembered_file
from trainer.compose.site_table import GROUP, TABLE, lines_of, region_of, regions
from trainer.compose.sources import COMMAND_LINE, CONF, EXPERIMENT, FILE, PACKAGE, USER, groups, search, sources
from trainer.compose.tracker_options import TRACKER_GROUP, switched, switched_on
from trainer.utils.bounded import YAML_BYTES, check_yaml, read_text
from trainer.utils.errors import UserError, nearest

NONE_CHOSEN = (EXPERIMENT, "task")  # groups of which the defaults choose nothing: Hydra cannot delete them
# Folders before the package's own, for Hydra's search path.
_FOLDERS: ContextVar[tuple[str, ...]] = ContextVar("folders", default=())


@dataclass(frozen=True)
class Origin:
    """Who said a value: one of sources.PRECEDENCE, and where."""

    layer: str
    file: Path | None = None
    line: int | None = None  # from 1; null where nothing but an interpolation put it there
    written: str | None = None  # in a file, a value that is no list and no mapping, before YAML reads it

    def __str__(self) -> str:
        return self.layer if self.file is None else f"{self.layer} ({self.place})"

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else str(self.file)


def read(overrides: Sequence[Override]) -> dict[str, Any]:
    """What the files say with these overrides on top, as plain data. Raises UserError in Hydra's words."""
    from hydra import compose
    from omegaconf import OmegaConf

    with _hydra(overrides) as (texts, _):
        composed = compose(search().primary, texts)
        check_interpolations(OmegaConf.to_container(composed, resolve=False))  # type: ignore[arg-type]
        return dict(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]


def origins(overrides: Sequence[Override]) -> dict[str, Origin]:
    """Who said the value of every dotted key that a file or an override names. Raises UserError as `read`."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    found: dict[str, Origin] = {}
    with _hydra(overrides) as (texts, named):
        loader = GlobalHydra.instance().config_loader()
        for default in loader.compute_defaults_list(search().primary, texts, RunMode.RUN).defaults:
            path = str(default.config_path)
            if path.startswith("hydra/") or (default.package or "").startswith("hydra"):
                continue
            layer, file = named.get(path) or _found(path)
            if file is None:
                continue
            lines = lines_of(path) or _key_lines(file)
            prefix = f"{default.package}." if default.package else ""
            for key, (line, written) in lines.items():
                found = {other: said for other, said in found.items() if not other.startswith(f"{prefix}{key}.")}
                found[(prefix + key).rstrip(".")] = Origin(
                    EXPERIMENT if path.startswith(f"{EXPERIMENT}/") else layer, file, line, written
                )
    for override in overrides:
        if not override.is_group:
            found = {key: said for key, said in found.items() if not f"{key}.".startswith(f"{override.key}.")}
            if not override.deletes:
                theirs = isinstance(override, Remembered)
                found[override.key] = Origin(USER, remembered_file()) if theirs else Origin(COMMAND_LINE)
    return found


@contextlib.contextmanager
def _hydra(overrides: Sequence[Override]) -> Iterator[tuple[list[str], dict[str, tuple[str, Path]]]]:
    """Hydra at its work: the overrides as it takes them, and the files that stand for an option, by their path in it.

    Raises UserError for what Hydra, OmegaConf and YAML refuse, also inside.
    """
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    _register()
    texts, named = [], {}
    with tempfile.TemporaryDirectory(prefix="isoflop-config-") as folder:
        for override in _last_choices(overrides):
            option = None
            if override.file is not None:
                check_yaml(read_text(override.file, YAML_BYTES), str(override.file))
                option = _unused_name(override.file, groups().get(override.key, []))
                (Path(folder) / override.key).mkdir(exist_ok=True)
                (Path(folder) / override.key / f"{option}.yaml").symlink_to(override.file.absolute())
                named[f"{override.key}/{option}"] = (FILE, override.file)
            texts.append(override.forced(option))
        before = [str(source.folder) for source in sources() if source.layer != PACKAGE]
        token = _FOLDERS.set((folder, *before) if named else tuple(before))
        try:
            with initialize_config_dir(str(CONF), version_base="1.3", job_name="isoflop"):
                yield texts, named
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_own_words(error, overrides)) from None
        except RecursionError:
            raise UserError("files of the configuration name each other without end: look at their defaults") from None
        except yaml.YAMLError as error:
            links = {f"{Path(folder) / path}.yaml": file for path, (_, file) in named.items()}
            raise UserError(_yaml_words(error, links)) from None
        finally:
            _FOLDERS.reset(token)


def _last_choices(overrides: Sequence[Override]) -> list[Override]:
    """Without choices of a group that a later one replaces, and without those that choose nothing where nothing is."""
    last = {override.full_key.lstrip("+~"): override for override in overrides if override.is_group}
    kept = [one for one in overrides if not one.is_group or last[one.full_key.lstrip("+~")] is one]
    return [one for one in kept if one.key not in NONE_CHOSEN or not one.is_group or one.forced()[0] != "~"]


@cache
def _register() -> None:
    """Make our folders known to Hydra, which asks its plugins for its search path, and how files of users are read."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.object_type import ObjectType
    from hydra.core.plugins import Plugins
    from hydra.plugins.config_source import ConfigResult, ConfigSource
    from hydra.plugins.search_path_plugin import SearchPathPlugin
    from omegaconf import OmegaConf

    class BoundedSource(FileConfigSource):
        @staticmethod
        def scheme() -> str:
            return "bounded"

        def load_config(self, config_path: str) -> ConfigResult:
            file = Path(self.path, self._normalize_file_name(config_path))
            check_yaml(read_text(file, YAML_BYTES), str(file))
            return super().load_config(config_path)

    class TableSource(ConfigSource):
        """Rows of a table, and trackers by their descriptions, where there is no file."""

        @staticmethod
        def scheme() -> str:
            return "table"

        def load_config(self, config_path: str) -> ConfigResult:
            config = OmegaConf.create(_without_file(config_path) or {})
            return ConfigResult(config=config, path=str(TABLE), provider=self.provider, header={"package": None})

        def available(self) -> bool:
            return TABLE.is_file()

        def is_group(self, config_path: str) -> bool:
            return config_path in (GROUP, TRACKER_GROUP)

        def is_config(self, config_path: str) -> bool:
            return _without_file(config_path) is not None

        def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
            return {GROUP: sorted(regions()), TRACKER_GROUP: sorted(switched())}.get(config_path, [])

    class Folders(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for folder in reversed(_FOLDERS.get()):
                search_path.prepend(provider="isoflop", path=f"bounded://{folder}")
            search_path.append(provider="isoflop", path=f"table://{GROUP}")

    Plugins.instance().register(Folders)
    SourcesRegistry.instance().register(BoundedSource)
    SourcesRegistry.instance().register(TableSource)


def _without_file(path: str) -> dict[str, Any] | None:
    """The keys of an option that no file has to state."""
    region = region_of(path)
    return switched_on(path) if region is None else region


def _unused_name(file: Path, options: Sequence[str]) -> str:
    """How a file that the command line names is called as an option: by its stem, if nothing else is."""
    return file.stem if file.stem not in options else f"{file.stem}-{sha256(str(file).encode()).hexdigest()[:6]}"


def _found(path: str) -> tuple[str, Path | None]:
    found = ((source.layer, source.folder / f"{path}.yaml") for source in sources())
    table = TABLE if region_of(path) is not None else None
    return next(((layer, file) for layer, file in found if file.is_file()), (PACKAGE, table))


def _key_lines(file: Path) -> dict[str, tuple[int, str | None]]:
    """Line of every leaf of a YAML file by its dotted key, and how it is written there, but of its defaults list; of
    what is no mapping, by ""."""
    node = yaml.compose(read_text(file, YAML_BYTES))
    found: dict[str, tuple[int, str | None]] = {}
    if node is not None and not isinstance(node, yaml.MappingNode):
        return {"": (node.start_mark.line + 1, None)}

    def walk(node: yaml.Node | None, prefix: str) -> None:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            name = f"{prefix}{key.value}"
            if isinstance(value, yaml.MappingNode) and value.value:
                walk(value, f"{name}.")
            elif name != "defaults":
                written = value.value if isinstance(value, yaml.ScalarNode) else None
                found[name] = (key.start_mark.line + 1, written)

    walk(node, "")
    return found


def _own_words(error: Exception, overrides: Sequence[Override]) -> str:
    """On one line. Of a list for a mapping, or the reverse, Hydra itself does not say which of the two is wanted."""
    swapped = re.search(r"Cannot merge \w+ with \w+\s+full_key: (\S+)\s+object_type=(list|dict)", str(error.__cause__))
    if swapped:
        kinds = ["[a list]", "{name: value}"]
        wanted, given = kinds if swapped[2] == "list" else reversed(kinds)
        return f"{swapped[1]}: {given} given, {wanted} wanted"
    text = " ".join(str(error).split())
    missing = re.search(r"In '([^']+)': Could not (?:find|load) '(\w+)/([^']+)'", text)
    experiments = [one.text for one in overrides if one.key == EXPERIMENT]
    where = _found(missing[1])[1] if missing and "/" in missing[1] else None
    place = f"{where}: " if where else f"{experiments[0]}: " if experiments else ""
    if missing:
        group, option = missing[2], missing[3]
        return f"{place}{group}: there is no file {group}/{option}.yaml{nearest(option, groups().get(group, []))}"
    return place + text


def _yaml_words(error: yaml.YAMLError, links: dict[str, Path]) -> str:
    """What is wrong with a YAML file, and where."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"{links.get(mark.name, mark.name)}:{mark.line + 1}: no YAML: {problem}"
