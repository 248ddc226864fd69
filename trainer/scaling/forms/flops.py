"""A power of the FLOPs: for ladders whose tokens follow their parameters, so that the two cannot be told apart."""

from __future__ import annotations

from typing import ClassVar

from trainer.scaling.forms.powers import SumOfPowers


class PowerOfFlops(SumOfPowers):
    """One curve of compute."""

    name = "ladder"
    title = "L = E + K/C^k"
    source = "Kaplan et al. 2020, section 6.1, with a floor"
    constants = ("E", "K", "k")
    units: ClassVar[dict[str, str]] = {"E": "nats/token"}
    variables = ("flop",)
    needs: ClassVar[dict[str, int]] = {"parameters": 3, "flop": 3}
    together = True
    steps = 24
    whats: ClassVar[dict[str, str]] = {"k": "FLOPs"}
