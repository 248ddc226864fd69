"""A law file of `isoflop fit` as one side of a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.scaling.efficiency.budgets import frontier
from trainer.scaling.efficiency.stored import SIX, StoredLaw
from trainer.scaling.fit.law_file import read_law
from trainer.scaling.forms import FORMS
from trainer.utils.errors import UserError


def read_stored(path: Path, label: str) -> StoredLaw:
    """Raises UserError where the file is no law, or one of more than parameters and tokens, or FLOPs."""
    law = read_law(path)
    ensemble, variables = law.ensemble, set(law.ensemble.variables())
    rule = ensemble.flop_rate or SIX
    if not (variables <= {"parameters", "tokens"} or variables == {"flop"}):
        raise UserError(
            f"compare: {path}: a law of {', '.join(sorted(variables))} ({law.form}); without their runs only laws of "
            "parameters and tokens, or of FLOPs, can be compared: give the tables"
        )

    def losses(points: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([ensemble.value(points)[None], ensemble.sample(points)])

    def lowest(log_flop: np.ndarray) -> np.ndarray:
        if variables == {"flop"}:
            return losses({"flop": np.exp(log_flop)})
        return frontier(
            lambda logs: losses(dict(zip(("parameters", "tokens"), np.exp(logs).T, strict=True))), rule, log_flop
        )

    return StoredLaw(
        label,
        f"{FORMS[law.form].title} ({law.form})",
        law.counts,
        law.loss_unit,
        _covered(law.ensemble.known, rule),
        lowest,
    )


def _covered(known: object, rule: tuple[float, float]) -> tuple[float, float]:
    """Least and most FLOPs of its runs; from sizes and tokens where the file does not say them."""
    spans = dict(known)  # type: ignore[call-overload]
    if "flop" in spans:
        return float(spans["flop"][0]), float(spans["flop"][1])
    level, power = rule
    low, high = (np.exp(level) * n**power * d for n, d in zip(spans["parameters"], spans["tokens"], strict=True))
    return float(low), float(high)
