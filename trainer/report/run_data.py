"""All data of a run that a report shows, read from the run's folder alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.books import PriceTag, measured, reprice
from trainer.books.energy import EnergyAccount, read_energy
from trainer.books.records import Steps, read_json, read_lines, read_steps
from trainer.books.run_length import known_steps
from trainer.config import Config, SiteConfig, load
from trainer.config.numerics import UNKNOWN
from trainer.plugins import read_plugins
from trainer.run_folder import RunFolder
from trainer.utils.errors import UserError
from trainer.utils.outcomes import SAID, Status


@dataclass(frozen=True)
class RunData:
    """One run, read from its folder."""

    run: Path
    config: Config
    site: SiteConfig  # at which it is priced
    tag: PriceTag
    steps: Steps
    energy: EnergyAccount
    events: list[dict[str, Any]]
    environment: Any
    overrides: str  # of all attempts
    numerics: str = UNKNOWN  # the tag of its arithmetic, of several one after the other
    plugins: tuple[dict[str, Any], ...] = ()  # those it used, as in plugins.json

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the lowest held-out loss."""
        scored = [item for item in self.steps.evaluations if isinstance(item.get("loss"), int | float)]
        return min(scored, key=lambda item: item["loss"], default=None)

    @property
    def kwh(self) -> float | None:
        """Energy as measured; None where nothing measured it."""
        return self._spent("energy.kwh")

    @property
    def gco2e(self) -> float | None:
        """Grams, of the measured energy at the run's site."""
        kilograms = self._spent("carbon.kgco2e")
        return None if kilograms is None else 1000 * kilograms

    @property
    def money(self) -> float | None:
        """In the currency of the run's site."""
        return self._spent("cost.amount")

    def _spent(self, key: str) -> float | None:
        figure = self.tag[key].measured
        return None if figure is None else figure.value

    @property
    def status(self) -> str:
        """A `Status`, as the last attempt said it, or as its files show."""
        for event in reversed(self.events):
            if event.get("name") in SAID:
                return str(event["name"])
            if event.get("name") == "lost":  # an error ended the newest attempt, which could say so
                return Status.FAILED
            said = event.get("data", {}).get("status") if isinstance(event.get("data"), dict) else None
            if isinstance(said, str):
                return said
            if event.get("name") in ("start", "resume"):
                break
        reached = self.steps.kept[-1]["step"] if self.steps.kept else 0
        return Status.FINISHED if reached >= (known_steps(self.config) or math.inf) else Status.INTERRUPTED


RUNNING, NOT_STARTED = "running", "not started"


def state_of(run_data: RunData) -> str:
    """A `Status`, or RUNNING where a process of this host holds the folder, or NOT_STARTED where nothing has begun."""
    if RunFolder(run_data.run).holder() is not None:
        return RUNNING
    return run_data.status if run_data.events else NOT_STARTED


def read_run(run: Path, site: SiteConfig | None = None) -> RunData:
    """Read a run folder, priced at its own site or at another one. Raises `UserError` where there is none."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run}: not a run folder (it has no config.yaml); give runs/<experiment>/<run id>")
    config = load(run / "config.yaml")
    priced = config if site is None else config.model_copy(update={"site": site})
    tag, before = measured(run, site), read_json(run / "plan.json")
    if isinstance(before, dict) and before.get("rows"):
        tag = reprice(PriceTag.from_json(before), priced).beside(tag)
    return RunData(
        run=run,
        config=config,
        site=priced.site,
        tag=tag,
        energy=read_energy(run),
        steps=_with_own_yardsticks(read_steps(run), config),
        events=read_lines(run / "events.jsonl"),
        environment=read_json(run / "environment.json"),
        overrides=_overrides(read_json(run / "overrides.json")),
        plugins=tuple(one for one in read_plugins(run) if one.get("used")),
        numerics=", then ".join(RunFolder(run).numerics(config)) or UNKNOWN,
    )


def _with_own_yardsticks(steps: Steps, config: Config) -> Steps:
    """Without the yardsticks that 0.1.0 took from all held-out text, where it measured the loss on a part of it."""
    if config.evaluation.samples is None:
        return steps
    known = (one if "unigram_loss" in one else one | {"unigram_bits_per_byte": None} for one in steps.evaluations)
    return replace(steps, evaluations=tuple(known))


def _overrides(attempts: Any) -> str:
    """Every word that was given, attempts divided by a semicolon."""
    given = [item.get("overrides") for item in attempts or () if isinstance(item, dict)]
    return "; ".join(" ".join(map(str, words)) for words in given if isinstance(words, list))
