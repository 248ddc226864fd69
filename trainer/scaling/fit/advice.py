"""The best model for a budget of FLOPs, energy, carbon or money, by a fitted law."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.scaling.fit.approaches import Optima
from trainer.scaling.fit.ensemble import Ensemble
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.resampling import Interval, interval
from trainer.scaling.fit.table import LARGEST, Table
from trainer.scaling.forms import FORMS
from trainer.utils.errors import UserError

GRID = 600  # sizes at which a form is looked up
SPAN = 300.0  # how far beyond the sizes of the runs
LEAST_RISE = 1e-4  # of the loss towards both ends, without which no size is the best

_UNITS = {
    "": ("flop", 1.0),
    "flop": ("flop", 1.0),
    "flops": ("flop", 1.0),
    "kwh": ("kwh", 1.0),
    "wh": ("kwh", 1e-3),
    "mwh": ("kwh", 1e3),
    "g": ("gco2e", 1.0),
    "gco2e": ("gco2e", 1.0),
    "kg": ("gco2e", 1e3),
    "kgco2e": ("gco2e", 1e3),
    "t": ("gco2e", 1e6),
    "tco2e": ("gco2e", 1e6),
    "money": ("money", 1.0),
}


@dataclass(frozen=True)
class Budget:
    axis: str
    amount: float


@dataclass(frozen=True)
class Advice:
    """How large the best model of a budget is, and what loss to expect."""

    axis: str
    unit: str
    budget: float
    parameters: Interval
    tokens: Interval
    loss: Interval
    method: str
    extrapolation: str  # how far the budget lies outside of the runs; nothing where it lies within

    def to_json(self) -> dict[str, Any]:
        figures = {name: getattr(self, name).to_json() for name in ("parameters", "tokens", "loss")}
        plain = {name: getattr(self, name) for name in ("axis", "unit", "budget", "method", "extrapolation")}
        return plain | figures


def read_budget(text: str, currency: str, option: str = "budget") -> Budget:
    """`1e21`, `25kWh`, `3kg`, `100 USD`. Raises UserError."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z$]*)\s*", text.lower())
    units = _UNITS | ({currency.lower(): ("money", 1.0)} if currency else {})
    if not match or match[2] not in units or not 1 / LARGEST < float(match[1]) < LARGEST:
        known = ", ".join(filter(None, units))
        raise UserError(f"{option}: {text!r} given; a positive number wanted, FLOPs or with a unit of {known}")
    axis, factor = units[match[2]]
    return Budget(axis, float(match[1]) * factor)


@dataclass(frozen=True)
class Rate:
    """What a token costs a model: amount = exp(log_k) N^power D. Arrays [1 + R], the fit and its replicates."""

    log_k: np.ndarray
    power: np.ndarray


def price_rate(table: Table, axis: str, weights: np.ndarray) -> Rate | None:
    """Least squares of log(amount / D) on log N; None where fewer than two runs of the table state the amount."""
    amount = table.column(axis)
    known = np.isfinite(amount) & (amount > 0)
    if known.sum() < 2:
        return None
    w = np.concatenate([np.ones((1, len(amount))), weights])[:, known]
    x = np.log(table.column("parameters")[known])
    y = np.log(amount[known] / table.column("tokens")[known])
    mass = np.maximum(w.sum(axis=1), 1e-9)
    mean_x, mean_y = w @ x / mass, w @ y / mass
    spread = np.einsum("rn,rn->r", w, (x - mean_x[:, None]) ** 2)
    shared = np.einsum("rn,rn->r", w, (x - mean_x[:, None]) * (y - mean_y[:, None]))
    # One size alone does not tell how the price grows with size: in proportion.
    power = np.where(spread > 1e-9, shared / np.maximum(spread, 1e-12), 1.0)
    return Rate(mean_y - power * mean_x, power)


def flop_rate(table: Table) -> tuple[float, float] | None:
    """log k and c of FLOP = k N^c D by this table's count; None where it states none."""
    rate = price_rate(table, "flop", np.empty((0, len(table.runs))))
    if rate is None or not np.isfinite([rate.log_k[0], rate.power[0]]).all():
        return None
    return float(rate.log_k[0]), float(rate.power[0])


def best_by_law(law: Law, rate: Rate, budget: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters, tokens and loss [1 + R] that minimise Chinchilla's law for what the budget buys."""
    return _closed(law.constants(), rate, budget)


def _closed(constants: np.ndarray, rate: Rate, budget: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """D = x / (k N^c); the derivative of A/N^alpha + B/D^beta by N is zero where
    N^(alpha + c beta) = alpha A / (c beta B) (x / k)^beta; with c = 1 that is Hoffmann et al. 2022, equation 4.
    """
    e, a, b, alpha, beta = constants.T
    c = np.maximum(rate.power, 1e-3)
    log_x = np.log(budget) - rate.log_k
    log_n = (np.log(alpha * a / (c * beta * b)) + beta * log_x) / (alpha + c * beta)
    log_d = log_x - c * log_n
    loss = e + a * np.exp(-alpha * log_n) + b * np.exp(-beta * log_d)
    return np.exp(log_n), np.exp(log_d), loss


def best_by_search(
    form: str, constants: np.ndarray, rate: Rate, budget: float, sizes: tuple[float, float], fixed: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and tokens [B] that minimise a form over parameters and tokens, by constants [B, p].

    Over a grid of log N within `sizes`, refined by a parabola through the lowest point and its neighbours; nan where
    the lowest lies at the rim, or the loss hardly depends on N. Tokens are priced by the rate's first row; `fixed`
    holds the form's other variables (unique tokens are at most the tokens).
    """
    line = np.linspace(np.log(sizes[0]), np.log(sizes[1]), GRID)
    log_d = np.log(budget) - rate.log_k[0] - max(float(rate.power[0]), 1e-3) * line
    columns = {name: np.full(GRID, value) for name, value in fixed.items()}
    columns |= {"parameters": np.exp(line), "tokens": np.exp(log_d), "flop": np.full(GRID, budget)}
    if "unique_tokens" in columns:
        columns["unique_tokens"] = np.minimum(columns["unique_tokens"], columns["tokens"])
    loss = FORMS[form].loss_at(constants, [columns[name] for name in FORMS[form].variables])
    loss = np.where(np.isfinite(loss), loss, np.inf)
    at = np.argmin(loss, axis=1)
    inner = np.clip(at, 1, GRID - 2)
    rows = np.arange(len(loss))
    below, here, above = (loss[rows, inner + k] for k in (-1, 0, 1))
    bend = below - 2 * here + above
    rise = np.minimum(loss[:, 0], loss[:, -1]) - loss.min(axis=1)
    known = (at == inner) & (bend > 0) & (rise > LEAST_RISE * np.abs(loss.min(axis=1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(known, 0.5 * (below - above) / bend, np.nan)
    log_n = line[inner] + shift * (line[1] - line[0])
    log_d = np.log(budget) - rate.log_k[0] - max(float(rate.power[0]), 1e-3) * log_n
    return np.exp(log_n), np.exp(log_d)


def advise(
    table: Table,
    budget: Budget,
    law: Law,
    optima: tuple[str, Optima] | None,
    weights: np.ndarray,
    ensemble: Ensemble,
) -> Advice:
    """The best model for a budget, by the chosen law. Raises UserError where nothing that was fitted can tell."""
    unit, amounts = table.unit(budget.axis), table.column(budget.axis)
    rate = price_rate(table, budget.axis, weights)
    if rate is None:
        raise UserError(f"budget: no two of the runs state their {budget.axis}; give a budget in another unit")
    doubts, found = law.unseen_slopes(), None
    if not doubts and {"parameters", "tokens"} <= set(law.model.variables):
        found = _by_ensemble(table, budget, rate, ensemble)
    if found is not None:
        figures, method = found
    elif optima is not None and budget.axis == "flop":
        name, points = optima
        a, b, n, d = points.exponents()
        x = np.log(budget.amount)
        sizes = [Interval(float(np.exp(level + power * x)), np.nan, np.nan) for power, level in ((a, n), (b, d))]
        lowest = Interval(np.nan, np.nan, np.nan)
        if law.form == "ladder":
            at = {"flop": budget.amount, "parameters": sizes[0].value, "tokens": sizes[1].value}
            lowest = ensemble.interval({key: np.array([value]) for key, value in at.items()})[0]
        figures, method = [*sizes, lowest], name
    else:
        said = doubts or [f"{law.form} has no lowest loss at a size of use"]
        why = "; ".join(said)
        raise UserError(
            f"budget: these runs determine no best model ({why}); without budget=, fit says all that they do"
        )
    parameters, tokens, lowest = figures
    beyond = _outside(budget.amount, np.nanmin(amounts), np.nanmax(amounts))
    return Advice(budget.axis, unit, budget.amount, parameters, tokens, lowest, method, beyond)


def _by_ensemble(table: Table, budget: Budget, rate: Rate, ensemble: Ensemble) -> tuple[list[Interval], str] | None:
    """Best parameters, tokens and the loss there; the interval of the first two over members and their replicates, as
    often as their weights say. None where the chosen form has no best size."""
    largest, sizes = np.nanmax(table.column(budget.axis)), table.column("parameters")
    growth = max(1.0, budget.amount / largest)
    span = (sizes.min() / SPAN, sizes.max() * SPAN * growth)
    fixed, parts = _fixed(table, ensemble), []
    for member in ensemble.members:
        if not {"parameters", "tokens"} <= set(FORMS[member.form].variables):
            continue
        if member.form == "chinchilla" and len(member.values) == len(rate.log_k):
            best = _closed(member.values, rate, budget.amount)[:2]
        else:
            best = best_by_search(member.form, member.values, rate, budget.amount, span, fixed)
        count = max(1, round(member.weight * ensemble.draws))
        rows = np.linspace(1, len(best[0]) - 1, count).round().astype(int) if len(best[0]) > 1 else np.zeros(1, int)
        parts.append((best[0][0], best[1][0], best[0][rows], best[1][rows]))
    size, tokens = float(parts[0][0]), float(parts[0][1])
    if not np.isfinite(size):
        return None
    at = {**fixed, "parameters": size, "tokens": tokens}
    if "unique_tokens" in at:
        at["unique_tokens"] = min(at["unique_tokens"], tokens)
    loss = ensemble.interval({name: np.array([value]) for name, value in at.items()})[0]
    chosen = ensemble.members[0].form
    method = "approach 3" if chosen == "chinchilla" else chosen
    method += "".join(f", {name} {at[name]:.3g}" for name in fixed)
    replicates = [np.concatenate([part[k] for part in parts]) for k in (2, 3)]
    return [interval(size, replicates[0]), interval(tokens, replicates[1]), loss], method


def _fixed(table: Table, ensemble: Ensemble) -> dict[str, float]:
    """What the forms read beside parameters, tokens and FLOPs: its median over the runs."""
    names = [name for name in ensemble.variables() if name not in ("parameters", "tokens", "flop")]
    return {name: float(np.nanmedian(table.column(name))) for name in names}


def _outside(amount: float, low: float, high: float) -> str:
    if amount > high * 1.05:
        return f"extrapolation: {amount / high:.3g} x the largest run"
    if amount < low / 1.05:
        return f"extrapolation: {low / amount:.3g} x below the smallest run"
    return ""
