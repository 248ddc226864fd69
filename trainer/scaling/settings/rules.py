"""A ladder's rules for learning rate and batch: powers that it states, or a law from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.books import parameters
from trainer.config import Config, LadderConfig
from trainer.config.ladder import PowerLawConfig
from trainer.utils.errors import UserError

if TYPE_CHECKING:
    from trainer.scaling.settings.law import SettingsLaw

KEYS = {"lr": "lr", "batch": "batch_size"}  # setting -> key of a ladder
LABELS = {"lr": "learning rate", "batch": "batch"}


class LawRule:
    """One setting of every rung by a law of a file."""

    def __init__(self, setting: str, rule: PowerLawConfig) -> None:
        """Raises UserError where the file is missing or damaged, has not this setting, or counts another N."""
        from trainer.scaling.fit.run_table import COUNTS
        from trainer.scaling.settings.law_file import read_law

        self.setting, self.path = setting, Path(str(rule.law))
        where = f"ladder.{KEYS[setting]}.law"
        try:
            self.law, stated = read_law(self.path)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if setting not in self.law.names:
            raise UserError(f"{where}: {self.path} has no law of {setting}; it has {', '.join(self.law.names)}")
        if stated is None and rule.parameters is None:
            raise UserError(
                f"{where}: {self.path} does not state what N counts ({self.law.counts}); add "
                f"{{law: ..., parameters: total}}, or active, or non_embedding"
            )
        if stated is not None and rule.parameters not in (None, stated):
            raise UserError(
                f"{where}: {self.path} counts as N {COUNTS[stated]}; parameters: {rule.parameters} is another N; leave "
                "it out"
            )
        if setting == "batch" and not self.law.batch_unit:
            raise UserError(f"{where}: {self.path} does not state whether its batch is of tokens or of sequences")
        self.count = stated or str(rule.parameters)

    def value(self, config: Config, tokens: float) -> float:
        """Of a rung that is trained on so many tokens; a batch in its own sequences."""
        size = float(getattr(parameters(config), self.count))
        value = float(np.exp(self.law.at(size, tokens)[self.law.names.index(self.setting)]))
        if self.setting == "batch" and self.law.batch_unit == "tokens":
            value /= config.data.sequence_length
        return value

    def outside(self, config: Config, tokens: float) -> str:
        """How far a rung lies outside of what the law was fitted to; nothing inside."""
        factors = self.law.outside(float(getattr(parameters(config), self.count)), tokens)
        return " and ".join(_beyond(axis, factor, self.law) for axis, factor in factors.items())

    @property
    def title(self) -> str:
        power = self.law.powers()[self.setting]
        terms = [f"{letter}^{figure.value:.3f}" for letter, figure in (("N", power.a), ("D", power.b)) if figure.value]
        unit = f" {self.law.batch_unit}" if self.setting == "batch" else ""
        return f"{LABELS[self.setting]} by {self.path}: {' x '.join([f'{power.k.value:.4g}', *terms])}{unit}"


def _beyond(axis: str, factor: float, law: SettingsLaw) -> str:
    low, high = getattr(law, axis)
    if factor > 1:
        return f"{factor:.3g} x the most {axis} of it ({high:.3g})"
    return f"{1 / factor:.3g} x below the fewest {axis} of it ({low:.3g})"


class Rules:
    """What a ladder states of a rung's learning rate and batch."""

    def __init__(self, ladder: LadderConfig) -> None:
        """Raises UserError with every law that cannot be read."""
        self.ladder = ladder
        wrong, self.laws = [], dict[str, LawRule]()
        for setting, rule in (("lr", ladder.lr), ("batch", ladder.batch_size)):
            if rule is None or rule.law is None:
                continue
            if setting == "lr" and ladder.parametrization != "standard":
                wrong.append(
                    f"ladder.lr.law: with parametrization={ladder.parametrization} the rate is that of the narrowest "
                    "rung, and the parametrization itself scales it; state it as {value: ...}, or leave it standard"
                )
                continue
            try:
                self.laws[setting] = LawRule(setting, rule)
            except UserError as error:
                wrong.append(str(error))
        if wrong:
            raise UserError("\n".join(wrong))

    def batch(self, config: Config, tokens: float) -> float | None:
        """Sequences a step; None where the ladder states none."""
        if self.ladder.batch_size is None:
            return None
        law = self.laws.get("batch")
        return law.value(config, tokens) if law else self.ladder.batch_size(tokens)

    def lr(self, config: Config, tokens: float) -> float | None:
        if self.ladder.lr is None:
            return None
        law = self.laws.get("lr")
        return law.value(config, tokens) if law else self.ladder.lr(parameters(config).total)

    def notes(self, name: str, config: Config, tokens: float) -> tuple[str, ...]:
        """Which laws a rung's settings are by, and how far it lies outside of what they were fitted to."""
        titles = [law.title for law in self.laws.values()]
        sayings = [law.outside(config, tokens) for law in self.laws.values()]
        return (*titles, *(f"{name}: outside of what the law was fitted to: {said}" for said in sayings if said))
