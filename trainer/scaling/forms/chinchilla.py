"""Chinchilla's form: a floor, a power of parameters and a power of tokens."""

from __future__ import annotations

from typing import ClassVar

from trainer.scaling.forms.powers import SumOfPowers


class Chinchilla(SumOfPowers):
    """Approach 3 of the paper."""

    name = "chinchilla"
    title = "L = E + A/N^alpha + B/D^beta"
    source = "Hoffmann et al. 2022, section 3.3"
    constants = ("E", "A", "B", "alpha", "beta")
    units: ClassVar[dict[str, str]] = {"E": "nats/token"}
    variables = ("parameters", "tokens")
    needs: ClassVar[dict[str, int]] = {"parameters": 3, "tokens": 3}
    steps = 16
    whats: ClassVar[dict[str, str]] = {"alpha": "parameters", "beta": "tokens"}
