"""A law of settings as a file: settings.json."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from trainer.scaling.fit.run_table import COUNTS
from trainer.scaling.settings.findings import SettingsFindings
from trainer.scaling.settings.law import SettingsLaw
from trainer.scaling.settings.points import SETTINGS
from trainer.utils.bounded import read_json
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic

FILE = "settings.json"
KIND, VERSION = "law of settings", 1
UNITS = ("tokens", "sequences", "")


def count_of(counts: str) -> str | None:
    """Which of total, active and non_embedding a table's N is; None where it does not state that."""
    known = {text: name for name, text in COUNTS.items()}
    title = counts.lower().replace("-", "_")
    return known.get(counts) or next((name for name in COUNTS if f"column '{name}" in title), None)


def write_law(found: SettingsFindings, path: Path, source: str) -> None:
    """source: the table or folder of runs that it is from, as it was named."""
    write_atomic(path, json.dumps(law_json(found, source), indent=1) + "\n")


def law_json(found: SettingsFindings, source: str) -> dict[str, Any]:
    law = found.law
    powers: dict[str, dict[str, Any]] = {
        name: {part: figure.to_json() for part, figure in zip("kab", power, strict=True)}
        for name, power in law.powers().items()
    }
    if "batch" in powers:
        powers["batch"]["unit"] = law.batch_unit or None
    held_out = {
        "places": len(found.held_out),
        "within_one_step": sum(miss.within_one for miss in found.held_out),
    }
    content = {
        "kind": KIND,
        "version": VERSION,
        "form": "k x N^a x D^b, with N parameters and D training tokens",
        "settings": powers,
        "count": count_of(law.counts),
        "parameters_are": law.counts,
        "fitted_to": {
            "source": source,
            "runs": len(found.points.loss),
            "places": len(found.places),
            "parameters": list(law.parameters),
            "tokens": list(law.tokens),
        },
        "held_out": held_out,
        # What intervals are made of: powers relative to the middle (log N, log D), and their covariance.
        "middle": list(law.middle),
        "coefficients": law.coefficients.tolist(),
        "covariance": law.covariance.tolist(),
        "scatter": law.scatter.tolist(),
    }
    return {**content, "hash": _hash(content)}


def _hash(content: dict[str, Any]) -> str:
    """Of everything but the hash itself."""
    text = json.dumps({name: value for name, value in content.items() if name != "hash"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_law(path: Path) -> tuple[SettingsLaw, str | None]:
    """The law of a file, and which of total, active and non_embedding its N is, where it states that.

    Raises UserError with one line where it is missing, is no law of settings, of a newer version, or was changed.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        hint = "isoflop fit writes one, settings.json, beside fit.json"
        raise UserError(f"{path}: no law of settings; {hint}")
    if content.get("version") != VERSION:
        raise UserError(f"{path}: version {content.get('version')} of a law of settings; this isoflop reads {VERSION}")
    if content.get("hash") != _hash(content):
        raise UserError(f"{path}: damaged or changed by hand: its hash is of another content; fit it again")
    try:
        return _law(content), content["count"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no whole law of settings ({type(error).__name__}: {error})") from None


def _law(content: dict[str, Any]) -> SettingsLaw:
    names = tuple(name for name in SETTINGS if name in content["settings"])
    fitted, unit = content["fitted_to"], content["settings"].get("batch", {}).get("unit") or ""
    coefficients, covariance = np.array(content["coefficients"], float), np.array(content["covariance"], float)
    scatter = np.array(content["scatter"], float)
    shapes = ((len(names), 3), (len(names), 3, 3), (len(names),))
    if not names or (coefficients.shape, covariance.shape, scatter.shape) != shapes or unit not in UNITS:
        raise ValueError("its constants do not fit its settings")
    middle = tuple(map(float, content["middle"]))
    if len(middle) != 2 or not all(map(math.isfinite, (*middle, *coefficients.flat))):
        raise ValueError("its constants are not finite")
    parameters, tokens = ((float(low), float(high)) for low, high in (fitted["parameters"], fitted["tokens"]))
    return SettingsLaw(
        names, coefficients, covariance, scatter, middle, parameters, tokens, unit, content["parameters_are"]
    )
