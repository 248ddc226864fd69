"""Findings as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.report.plots import BLACK, BLUE, GREY, ORANGE, Curve, Picture, Plot, picture
from trainer.scaling.fit.advice import best_by_law, best_by_search, price_rate
from trainer.scaling.fit.approaches import Optima
from trainer.scaling.fit.colours import by_size
from trainer.scaling.fit.colours import colours as colours_of
from trainer.scaling.fit.findings import Findings
from trainer.scaling.fit.law_file import unit_of
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.trust_pictures import influences, residuals, rolling_errors
from trainer.scaling.forms import FORMS

GREEN = "#3b7d4f"
AXIS_TITLES = {"flop": "training FLOPs", "kwh": "kWh", "gco2e": "g CO2e", "money": "money"}
MOST_REPLICATES = 100  # of a band
BEYOND = 10.0  # how far behind the largest run lines are drawn


def pictures(found: Findings) -> dict[str, Picture]:
    """By name; only those that the table can fill."""
    return {name: picture(plot) for name, plot in plots(found).items()}


def plots(found: Findings) -> dict[str, Plot]:
    """By name; only those that the table can fill."""
    made: dict[str, Plot] = {}
    for axis, title in AXIS_TITLES.items():
        if np.isfinite(found.table.column(axis)).sum() >= 2:
            label = found.table.currency or title if axis == "money" else title
            made[f"loss-{axis}"] = _loss(found, axis, label)
    if found.isoflop.parabolas:
        made["isoflop"] = _profiles(found)
    if found.laws.get("chinchilla") or not (found.envelope.why and found.isoflop.why):
        made["optimum"] = _optimum(found)
    if found.law is not None:
        made["predicted"] = _predicted(found, found.law)
        made["residuals"] = residuals(found, found.law)
        if found.choice.cuts:
            made["held-out"] = rolling_errors(found)
        if len(found.law.replicates) >= 20:
            made["influence"] = influences(found, found.law)
    return made


def _loss(found: Findings, axis: str, label: str) -> Plot:
    """Every run by size, and the law's lowest loss for each amount with its interval."""
    table = found.table
    x, loss, sizes = table.column(axis), table.column("loss"), table.column("parameters")
    known = np.isfinite(x)
    curves = by_size(x[known], loss[known], sizes[known], _names(found, known))
    line = np.geomspace(x[known].min(), x[known].max() * BEYOND, 60)
    best = _lowest_losses(found, axis, line)
    if best is not None:
        curves.append(_band(line, best, "best of any size, by the law"))
    positive = bool((loss > 0).all())  # normalised ones may be negative
    unit = f"held-out loss, {unit_of(table)}"
    return Plot(f"Loss against {label}", label, unit, curves, x_log=True, y_log=positive)


def _names(found: Findings, some: np.ndarray) -> list[str]:
    return [run.name for run, one in zip(found.table.runs, some, strict=True) if one]


def _lowest_losses(found: Findings, axis: str, amounts: np.ndarray) -> np.ndarray | None:
    """[1 + R, m]: the lowest loss of any size for each amount, by the chosen law; None where it does not tell."""
    law, table = found.law, found.table
    if law is None:
        return None
    if law.model.variables == ("flop",):
        return law.at(amounts) if axis == "flop" else None
    rate = price_rate(table, axis, np.ones((len(law.replicates), len(table.runs))))
    if rate is None or not set(law.model.variables) <= {"parameters", "tokens", "flop"}:
        return None
    if law.form == "chinchilla":
        return np.stack([best_by_law(law, rate, amount)[2] for amount in amounts], axis=1)
    sizes, flop = table.column("parameters"), price_rate(table, "flop", np.empty((0, len(table.runs))))
    if flop is None:
        return None
    some, losses = law.constants()[: 1 + MOST_REPLICATES], []
    for amount in amounts:
        n, d = best_by_search(law.form, some, rate, amount, (sizes.min() / BEYOND, sizes.max() * BEYOND**2), {})
        c = np.exp(flop.log_k[0]) * n ** flop.power[0] * d
        columns = {"parameters": n, "tokens": d, "flop": c}
        at = law.model.loss_at(
            some, [columns[name] for name in law.model.variables]
        )  # [B, B]: each at each one's place
        losses.append(np.diagonal(at))
    return np.stack(losses, axis=1)


def _profiles(found: Findings) -> Plot:
    """Loss over size at each budget, its parabola, and the parabola's minimum."""
    table = found.table
    sizes, loss, flop = (table.column(name) for name in ("parameters", "loss", "flop"))
    curves = []
    for parabola, colour in zip(found.isoflop.parabolas, colours_of(len(found.isoflop.parabolas)), strict=True):
        nearest = table.budgets[np.argmin(np.abs(np.log(flop / parabola.flop)))]
        here = np.flatnonzero(table.budgets == nearest)
        here = here[np.argsort(sizes[here], kind="stable")]
        budget = f"{parabola.flop:.2g} FLOP"
        names = [f"{table.runs[place].name} ({budget})" for place in here]
        dots: Any = {"style": "", "marker": "o", "size": 3.5, "names": names}
        curves.append(Curve(budget, _list(sizes[here]), _list(loss[here]), colour, **dots))
        line = np.geomspace(*parabola.sizes, 60)
        called = f"parabola of {budget}"
        curves.append(Curve("", _list(line), _list(parabola.at(line)), colour, width=1, called=called))
        if (best := parabola.best) is not None:
            at = _list(parabola.at(np.array([best])))
            star: Any = {"style": "", "marker": "*", "size": 9, "called": f"minimum of {budget}"}
            curves.append(Curve("", [float(best)], at, ORANGE, **star))
    unit = f"held-out loss, {unit_of(table)}"
    return Plot("IsoFLOP profiles (star: minimum)", "parameters N", unit, curves, x_log=True)


def _optimum(found: Findings) -> Plot:
    """Best size over budget by each approach."""
    flop = found.table.column("flop")
    line = np.geomspace(flop.min(), flop.max() * BEYOND, 60)
    curves = []
    named = (("approach 1", found.envelope, BLUE, "."), ("approach 2", found.isoflop, ORANGE, "*"))
    for name, approach, colour, marker in named:
        if approach.why:
            continue
        optima: Optima = approach.optima
        a, _, level, _ = optima.exponents()
        dots: Any = {"style": "", "marker": marker, "size": 8 if marker == "*" else 3, "called": name}
        curves.append(Curve("", _list(optima.flop), _list(optima.parameters), colour, **dots))
        straight = np.exp(level + a * np.log(line))
        curves.append(Curve(f"{name}: a = {a:.2f}", _list(line), _list(straight), colour, "--", width=1.2))
    law = found.laws.get("chinchilla")
    if law is not None:
        rate = price_rate(found.table, "flop", np.ones((len(law.replicates), len(flop))))
        assert rate is not None
        best = np.stack([best_by_law(law, rate, amount)[0] for amount in line], axis=1)
        curves.append(_band(line, best, f"approach 3: a = {law.exponents()[0, 0]:.2f}", GREEN))
    if found.law is not None and found.law.form != "chinchilla":
        chosen = _best_sizes(found, line)
        if np.isfinite(chosen).any():
            curves.append(Curve(f"{found.chosen} (chosen)", _list(line), _list(chosen), BLACK, width=1.4))
    return Plot("Compute-optimal size", "training FLOPs C", "parameters N", curves, x_log=True, y_log=True)


def _best_sizes(found: Findings, amounts: np.ndarray) -> np.ndarray:
    """[m]: the best size for each number of FLOPs by the chosen form; nan where it does not tell."""
    law, table = found.law, found.table
    assert law is not None
    rate, sizes = price_rate(table, "flop", np.empty((0, len(table.runs)))), table.column("parameters")
    if rate is None or not {"parameters", "tokens"} <= set(law.model.variables) <= {"parameters", "tokens", "flop"}:
        return np.full(len(amounts), np.nan)
    within = sizes.min() / BEYOND, sizes.max() * BEYOND**2
    found_at = [best_by_search(law.form, law.constants()[:1], rate, amount, within, {}) for amount in amounts]
    return np.array([n[0] for n, _ in found_at])


def _predicted(found: Findings, law: Law) -> Plot:
    table = found.table
    loss = table.column("loss")
    predicted = law.at(*(table.column(name) for name in FORMS[law.form].variables))[0]
    names = [run.name for run in table.runs]
    ends = [float(min(predicted.min(), loss.min())), float(max(predicted.max(), loss.max()))]
    equal = Curve("", ends, ends, GREY, width=1, called="where both are equal")
    curves = [*by_size(predicted, loss, table.column("parameters"), names), equal]
    return Plot(f"Law against runs: {law.form}", "predicted loss", "held-out loss", curves)


def _band(x: np.ndarray, y: np.ndarray, label: str, colour: str = ORANGE) -> Curve:
    """A line with the middle 95% of its replicates; y: [1 + R, m]."""
    low, high = np.nanpercentile(y[1:], [2.5, 97.5], axis=0) if len(y) > 20 else ([], [])
    return Curve(label, _list(x), _list(y[0]), colour, width=1.4, low=_list(low), high=_list(high))


def _list(column: Any) -> list[float]:
    return np.asarray(column, float).tolist()
