"""All data of a run that a report shows, read from the run's folder alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.books import PriceTag, measured, reprice
from trainer.books.branch import read_trunk
from trainer.books.energy import EnergyAccount, read_energy
from trainer.books.records import NO_STEPS, Steps, read_lines, read_steps
from trainer.books.run_length import known_steps
from trainer.config import Config, SiteConfig, load
from trainer.config.numerics import UNKNOWN
from trainer.plugins import read_plugins
from trainer.run_folder import RunFolder, not_a_run
from trainer.utils.bounded import read_json
from trainer.utils.errors import UserError, left_out
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
    trunk: Steps = NO_STEPS  # of a branch: the records before its first step

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the lowest held-out loss."""
        scored = [item for item in self.evaluations if isinstance(item.get("loss"), int | float)]
        return min(scored, key=lambda item: item["loss"], default=None)

    @property
    def evaluations(self) -> tuple[dict[str, Any], ...]:
        """Of a branch those of its trunk too."""
        return self.trunk.evaluations + self.steps.evaluations

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
    def gco2e_per_kwh(self) -> float | None:
        """The intensity of the site's grid: of a curve over the run's own hours."""
        if self.site.curve is None:
            return self.site.gco2e_per_kwh
        hours = next((row.measured for row in self.tag.rows if row.key == "carbon.gco2e_per_kwh"), None)
        return None if hours is None else hours.value

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
    """Read a run folder, priced at its own site or at another one.

    Raises `UserError` where there is none, and where its files hold what no run writes. Of a file that only adds to
    what the others tell, a line on standard error says that it is damaged.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{not_a_run(run)}; give runs/<experiment>/<run id>")
    try:
        return _read(run, load(run / "config.yaml"), site)
    except (UserError, OSError):
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{run}: its files hold what no run writes ({said})") from error


def _read(run: Path, config: Config, site: SiteConfig | None) -> RunData:
    priced = config if site is None else config.model_copy(update={"site": site})
    steps = read_steps(run)
    tag, before = measured(run, site, steps), _beside(run / "plan.json", dict)
    if before and before.get("rows"):
        try:
            tag = reprice(PriceTag.from_json(before), priced).beside(tag)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            left_out("the plan", UserError(f"{run / 'plan.json'}: no price tag ({type(error).__name__}: {error})"))
    second = RunFolder(run).second_plan
    if (again := _beside(second, dict)) and again.get("rows"):
        try:
            tag = tag.revised_by(reprice(PriceTag.from_json(again), priced))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            left_out("the second plan", UserError(f"{second}: no price tag ({type(error).__name__}: {error})"))
    return RunData(
        run=run,
        config=config,
        site=priced.site,
        tag=tag,
        energy=read_energy(run),
        steps=_drop_mismatched_baselines(steps, config),
        trunk=_drop_mismatched_baselines(read_trunk(run), config),
        events=read_lines(run / "events.jsonl"),
        environment=_beside(run / "environment.json", list),
        overrides=_overrides(_beside(run / "overrides.json", list)),
        plugins=tuple(one for one in read_plugins(run) if one.get("used")),
        numerics=", then ".join(RunFolder(run).numerics(config)) or UNKNOWN,
    )


def _drop_mismatched_baselines(steps: Steps, config: Config) -> Steps:
    """Without the yardsticks that 0.1.0 took from all held-out text, where it measured the loss on a part of it."""
    if config.evaluation.samples is None:
        return steps
    known = (one if "unigram_loss" in one else one | {"unigram_bits_per_byte": None} for one in steps.evaluations)
    return replace(steps, evaluations=tuple(known))


def _beside(path: Path, kind: type) -> Any:
    """A JSON file's content; None where it is missing, and where it is damaged, which is told."""
    if not path.exists() and not path.is_symlink():
        return None
    try:
        content = read_json(path)
        if not isinstance(content, kind):
            raise UserError(f"{path}: a {kind.__name__} wanted, {type(content).__name__} found")
    except UserError as error:
        left_out(path.stem, error)
        return None
    return content


def _overrides(attempts: Any) -> str:
    """Every word that was given, attempts divided by a semicolon."""
    given = [item.get("overrides") for item in attempts or () if isinstance(item, dict)]
    return "; ".join(" ".join(map(str, words)) for words in given if isinstance(words, list) and words)
