"""What a batch script says of itself before it runs: its planned price, and the CPUs that it asks for."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import NamedTuple

from trainer.books import plan
from trainer.books.formatting import format_quantity
from trainer.config import Config, LaunchConfig
from trainer.utils.slurm_options import gpus_of

ASK_SECONDS = 5.0
# Row of the price tag -> its word where it is not stated.
PRICE = {
    "time.wall": "time",
    "machine.device_hours": "device-hours",
    "energy.kwh": "energy",
    "carbon.kgco2e": "CO2e",
    "cost.amount": "money",
}


class Node(NamedTuple):
    """The least node of a partition."""

    cpus: int
    gpus: int | None  # None: SLURM states none


def price_lines(config: Config, runs: int) -> list[str]:
    """Comments with what one of the runs is planned to cost; what is not known is not stated."""
    which = "planned, each run" if runs > 1 else "planned"
    if config.machine.name == "unstated":
        return [f"# {which}: time, energy, CO2e and money not stated; machine=<name> and site=<name> state them"]
    rows = {row.key: (row.planned, row.unit) for row in plan(config).rows}
    said = []
    for key, word in PRICE.items():
        planned, unit = rows.get(key, (None, ""))
        known = planned is not None and planned.value is not None
        said.append(format_quantity(planned, unit) if known else f"{word} not stated")
    return [re.sub(r"[^\x20-\x7e]", "?", f"# {which} on {config.machine.name}: {'; '.join(said)}")]


def with_cpus(launch: LaunchConfig) -> tuple[LaunchConfig, list[str]]:
    """The group with `cpus_per_rank` where a job with GPUs leaves it open, and a comment that says so.

    A rank gets its share of the node's CPUs by its share of the node's GPUs. Without GPUs, or where sinfo does not
    answer, it stays with SLURM's own default.
    """
    gpus = launch.gpus_per_node or (gpus_of(launch.gres) if launch.gres else None)
    if launch.cpus_per_rank is not None:
        return launch, []
    node = least_node(launch.partition) if gpus else None
    if gpus is None or node is None:
        return launch, ["# CPUs of a rank: SLURM's default; launch.cpus_per_rank=<n> asks for more"]
    share = min(1.0, gpus / node.gpus) if node.gpus else 1.0
    cpus = max(1, int(node.cpus * share) // launch.processes)
    of = f"{gpus} of {node.gpus} GPUs" if node.gpus else "its GPUs"
    said = f"# CPUs of a rank: {cpus}, of a node's {node.cpus} by {of} (sinfo); launch.cpus_per_rank=<n> sets it"
    return launch.model_copy(update={"cpus_per_rank": cpus}), [said]


def least_node(partition: str | None) -> Node | None:
    """The node with the fewest CPUs of a partition, of the default one where none is named; None: not known."""
    if shutil.which("sinfo") is None:
        return None
    words = ["sinfo", "--noheader", "--format=%P|%c|%G", *([f"--partition={partition}"] if partition else [])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 2]
    if not partition:
        rows = [row for row in rows if row[0].endswith("*")] or rows
    nodes = [Node(int(count[0]), gpus_of(gres)) for _, cpus, gres in rows if (count := re.match(r"\d+", cpus))]
    return min(nodes, key=lambda node: node.cpus, default=None)
