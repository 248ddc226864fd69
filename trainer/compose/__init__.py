"""From the command line to a checked configuration: the only package that imports Hydra. Ranks never do."""

from __future__ import annotations

from trainer.compose.branched import branch_of, compose
from trainer.compose.composition import change, compose_grid, compose_ladder, differences
from trainer.compose.explaining import explained
from trainer.compose.help import describe_grid, describe_keys, describe_ladder, values_of
from trainer.compose.overrides import Override, in_quotes, parse, sweep
from trainer.compose.sources import CONF, groups, searching

__all__ = [
    "CONF",
    "Override",
    "branch_of",
    "change",
    "compose",
    "compose_grid",
    "compose_ladder",
    "describe_grid",
    "describe_keys",
    "describe_ladder",
    "differences",
    "explained",
    "groups",
    "in_quotes",
    "parse",
    "searching",
    "sweep",
    "values_of",
]
