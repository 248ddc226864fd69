"""The words of a command line, in Hydra's grammar."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.compose.no_override import no_override
from trainer.compose.site_table import GROUP as SITES
from trainer.compose.site_table import nearest_site, regions
from trainer.compose.sources import EXPERIMENT, FILE_ENDINGS, MANY, groups, sources
from trainer.compose.tracker_options import TRACKER_GROUP, upon_default
from trainer.config import Config
from trainer.config.choice import Choosing
from trainer.config.ladder import MOST_RUNS, too_many
from trainer.config.upgrade import RENAMED
from trainer.config.validate import is_text, keys, section_of
from trainer.utils.bounded import check_word, no_file
from trainer.utils.errors import UserError, cut, nearest
from trainer.utils.home import expanded
from trainer.utils.hydra_names import hydras_own


class Override:
    """One `key=value` or `group=option` of the command line, in Hydra's grammar."""

    def __init__(self, text: str) -> None:
        from hydra.errors import HydraException

        if wrong := check_word(text):
            raise UserError(f"{cut(text)}: {wrong}")
        if text.startswith("-") and "=" in text:
            raise UserError(f"{text}: overrides are written without dashes: {text.lstrip('-')}")
        try:
            text = in_grammar(text)
        except HydraException as error:
            raise UserError(no_override(text, str(error))) from None
        parsed = _parsed(text)
        if not parsed.key_or_group:
            raise UserError(f"{text}: no key; write key=value")
        self.text, self.key, self.parsed = text, parsed.key_or_group, parsed
        if not self.is_group and is_text(self.key) and (quoted := _quoted(text, parsed)):
            self.text, self.parsed = quoted, _parsed(quoted)

    @property
    def is_group(self) -> bool:
        return "." not in self.key and self.key in {*groups(), EXPERIMENT}

    @property
    def file(self) -> Path | None:
        """The file that stands for an option of the group, as in `model=path/to/mine.yaml`."""
        named = None if not self.is_group or self.is_sweep else self.value()
        return expanded(named) if isinstance(named, str) and named.endswith(FILE_ENDINGS) else None

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

    @property
    def number(self) -> int:
        """How many values it sweeps; of more than `MOST_RUNS` one more than that, however many there are."""
        from hydra.core.override_parser.types import RangeSweep

        if not self.is_sweep:
            return 1
        value = self.value()  # of a range that is shuffled the iterator would hold all
        try:
            values = value.range() if isinstance(value, RangeSweep) else self.parsed.sweep_iterator()
        except ValueError as error:
            raise UserError(f"{self.text}: {error}") from None
        return sum(1 for _ in islice(values, MOST_RUNS + 1))

    def texts(self) -> list[str]:
        """The same as they are written in an override."""
        return list(self.parsed.sweep_string_iterator())

    def check(self) -> str | None:
        """What is wrong with the name of the group or of its option, if anything."""
        if self.key.split(".")[0].split("/")[0] == "hydra":
            return hydras_own(self.text, self.key)
        if self.file is not None:
            wrong = no_file(self.file)
            return f"{self.text}: {wrong}" if wrong else None
        if self.is_group and not self.is_sweep and not self.deletes:
            for option in self.value() if isinstance(self.value(), list) else [self.value()]:
                if option is not None and (wrong := _no_option(self.key, str(option))):
                    return wrong
        if self.is_sweep and hasattr(self.value(), "exclude"):
            return f"{self.text}: glob is not taken; name the options, with commas between them"
        known = [*groups(), EXPERIMENT, *Config.model_fields]
        if self.key.split(".")[0].split("@")[0] not in known:
            return f"{self.key}: no such key{nearest(self.key, [*known, *keys()])}"
        return None

    @property
    def deletes(self) -> bool:
        """`~key`: what the files say of it is left out, so that the schema's default holds."""
        return bool(self.parsed.is_delete())

    def forced(self, option: str | None = None) -> str:
        """The same override, allowed also where the YAML files are silent: our schema says which keys there are.

        option: the name under which the file of the override is found.
        """
        if self.is_group and not self.deletes and not self.is_sweep and self.value() is None:
            return f"~{self.key}"
        text = self.text if option is None else f"{self.full_key}={in_quotes(option)}"
        if self.key == TRACKER_GROUP and not self.deletes and not self.is_sweep:
            named = option or self.value()
            text = f"{self.full_key}=[{','.join(upon_default(named if isinstance(named, list) else [named]))}]"
        if self.is_group:  # a group that the defaults know may be added again: it is the same group
            return f"+{text.removeprefix('+')}" if self.key in MANY else text.removeprefix("+")
        return text if text[0] in "+~" else f"++{text}"


def _quoted(text: str, parsed: Any) -> str | None:
    """The override of a key that wants text with quotes around what the grammar would read as a number or a truth."""
    key, _, written = text.partition("=")
    values = list(parsed.sweep_iterator()) if parsed.is_choice_sweep() else [parsed.value()]
    words = written.split(",")
    if len(words) != len(values) or not any(isinstance(value, int | float) for value in values):
        return None
    return f"{key}=" + ",".join(
        f"'{word.strip()}'" if isinstance(value, int | float) else word
        for word, value in zip(words, values, strict=True)
    )


def _no_option(group: str, option: str) -> str | None:
    """The line about a name that no file of the group has."""
    options = groups().get(group, [])
    if option in options:
        return None
    if group == EXPERIMENT and not options:
        folders = " or ".join(str(source.folder / EXPERIMENT) for source in sources()[:-1])
        where = f"write {folders}/{option}.yaml" if folders else f"name a folder with {EXPERIMENT}/{option}.yaml"
        return f"{group}={option}: no such option; there is none yet: {where}" + ("" if folders else " by --config-dir")
    section = section_of([group], Config)
    for key, registry in section.CHOICES.items() if section and issubclass(section, Choosing) else ():
        if option in registry:
            return f"{group}={option}: there is no file {group}/{option}.yaml; {group}.{key}={option} chooses it"
    if group == SITES:
        few = ", ".join(name for name in options if name not in regions())
        near = nearest_site(option, options)
        return f"{group}={option}: no such option{near}; there is {few}, and the rows of conf/site/regions.csv"
    allowed = ", ".join(options[:12]) + (", ..." if len(options) > 12 else "")
    return f"{group}={option}: no such option{nearest(option, options)}; there is {allowed}"


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """One word in Hydra's grammar, whose parser takes a millisecond a word: a command asks several times. Raises
    HydraException."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(text)


def in_grammar(text: str) -> str:
    """The word, or, where Hydra's grammar does not take it, its value in quotes: of a key that wants text or texts, and
    of a file of a group, anything is one (`data.path=größen (alt)/*.txt`) but what begins or goes on as grammar does.

    Raises HydraException.
    """
    from hydra.errors import HydraException

    try:
        _parsed(text)
    except HydraException:
        key, equals, value = text.partition("=")
        name, quotes = key.lstrip("+"), in_quotes(value)
        wants_text = is_text(name, lists=True) or (name in groups() and value.endswith(FILE_ENDINGS))
        grammar = value[:1] in "'\"[{" or any(one in value for one in (quotes[0], ",", "\\", "${"))
        if not equals or not wants_text or grammar:
            raise
        _parsed(f"{key}={quotes}")
        return f"{key}={quotes}"
    return text


def in_quotes(value: str) -> str:
    """The text as Hydra's grammar takes it, whatever stands in it but quotes of both kinds."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def parse(texts: Iterable[str]) -> list[Override]:
    """All overrides, or a UserError that names every one that is wrong."""
    overrides, wrong = [], []
    for text in texts:
        try:
            overrides.append(Override(by_new_name(text)))
        except UserError as error:
            wrong.append(str(error))
    wrong += [line for override in overrides if (line := override.check())]
    if wrong:
        raise UserError("\n".join(wrong))
    return overrides


def by_new_name(text: str) -> str:
    """An override of a key that was renamed, by its name now; says so on standard error."""
    mark = text[: len(text) - len(text.lstrip("+~"))]
    key, equals, value = text[len(mark) :].partition("=")
    if key not in RENAMED:
        return text
    print(f"isoflop: {key} is {RENAMED[key]} now; the old name is read in this release only", file=sys.stderr)
    return f"{mark}{RENAMED[key]}{equals}{value}"


def sweep(texts: list[str]) -> list[list[str]]:
    """The runs of a multirun: the product of all sweeps in the overrides, in Hydra's order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = parse(texts)
    endless = [
        f"{one.text}: an interval lists no values; search=optuna draws from it" for one in overrides if one.is_interval
    ]
    if endless:
        raise UserError("\n".join(endless))
    if many_runs := too_many({one.text: one.number for one in overrides if one.is_sweep}):
        raise UserError(many_runs)
    words = [in_grammar(text) for text in texts]
    batches = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
    return [list(run) for batch in batches for run in batch]
