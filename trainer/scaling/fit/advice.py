"""The best model for a budget of FLOPs, energy, carbon or money, by a fitted law."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.scaling.fit.approaches import Optima
from trainer.scaling.fit.parametric import Law
from trainer.scaling.fit.resampling import Interval, interval
from trainer.scaling.fit.table import Table
from trainer.utils.errors import UserError

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
    if not match or match[2] not in units or not 0 < float(match[1]) < math.inf:
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


def best_by_law(law: Law, rate: Rate, budget: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters, tokens and loss [1 + R] that minimise Chinchilla's law for what the budget buys.

    D = x / (k N^c); the derivative of A/N^alpha + B/D^beta by N is zero where
    N^(alpha + c beta) = alpha A / (c beta B) (x / k)^beta; with c = 1 that is Hoffmann et al. 2022, equation 4.
    """
    e, a, b, alpha, beta = law.constants().T
    c = np.maximum(rate.power, 1e-3)
    log_x = np.log(budget) - rate.log_k
    log_n = (np.log(alpha * a / (c * beta * b)) + beta * log_x) / (alpha + c * beta)
    log_d = log_x - c * log_n
    loss = e + a * np.exp(-alpha * log_n) + b * np.exp(-beta * log_d)
    return np.exp(log_n), np.exp(log_d), loss


def advise(
    table: Table, budget: Budget, law: Law | None, optima: tuple[str, Optima] | None, weights: np.ndarray
) -> Advice:
    """The best model for a budget. Raises UserError where nothing that was fitted can tell."""
    unit, amounts = table.unit(budget.axis), table.column(budget.axis)
    rate = price_rate(table, budget.axis, weights)
    if rate is None:
        raise UserError(f"budget: no two of the runs state their {budget.axis}; give a budget in another unit")
    doubts = law.unseen_slopes() if law is not None else []
    if law is not None and law.form == "chinchilla" and not doubts:
        columns = best_by_law(law, rate, budget.amount)
        figures = [interval(column[0], column[1:]) for column in columns]
        method = "approach 3"
    elif optima is not None and budget.axis == "flop":
        name, found = optima
        a, b, n, d = found.exponents()
        x = np.log(budget.amount)
        loss = (
            law.at(np.array([budget.amount]))[:, 0] if law is not None and law.form == "ladder" else np.array([np.nan])
        )
        sizes = [Interval(float(np.exp(level + power * x)), np.nan, np.nan) for power, level in ((a, n), (b, d))]
        figures = [*sizes, interval(loss[0], loss[1:])]
        method = name
    else:
        why = f" ({'; '.join(doubts)})" if doubts else ""
        raise UserError(f"budget: these runs determine no best model{why}; without budget=, fit says all that they do")
    low, high = np.nanmin(amounts), np.nanmax(amounts)
    parameters, tokens, lowest = figures
    beyond = _outside(budget.amount, low, high)
    return Advice(budget.axis, unit, budget.amount, parameters, tokens, lowest, method, beyond)


def _outside(amount: float, low: float, high: float) -> str:
    if amount > high * 1.05:
        return f"extrapolation: {amount / high:.3g} x the largest run"
    if amount < low / 1.05:
        return f"extrapolation: {low / amount:.3g} x below the smallest run"
    return ""
