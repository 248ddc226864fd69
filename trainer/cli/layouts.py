"""`isoflop plan layouts=8x8`: the cheapest layouts of a cluster for a run."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from trainer.utils.errors import UserError

if TYPE_CHECKING:
    from trainer.books.layouts import Layout, Layouts

CLUSTER = re.compile(r"(?:([1-9]\d{0,5})x)?([1-9]\d{0,5})")
SAYS_IT = ("launch.nodes", "launch.processes", "launch.gpus_per_node")
COLUMNS = ("", "time/step", "tokens/s", "of peak", "memory", "wire", "sent", "between hosts")


class Cluster(NamedTuple):
    """nodes x devices of each."""

    nodes: int
    devices: int


def take_layouts(words: list[str], flags: set[str]) -> tuple[list[str], Cluster | None]:
    """Take `layouts=8x8` or `layouts=8` out of the words. Raises UserError where that is no cluster, and for what
    cannot be asked for beside it."""
    given = [word for word in words if word.startswith("layouts=")]
    if not given:
        return words, None
    if len(given) > 1:
        raise UserError(f"layouts: given {len(given)} times ({', '.join(given)}); one cluster is tried at a time")
    text = given[0].partition("=")[2]
    match = CLUSTER.fullmatch(text)
    if match is None:
        raise UserError(f"layouts: {text!r} given; nodes x devices of each wanted, e.g. 8x8, or devices of one, e.g. 8")
    rest = [word for word in words if word not in given]
    for word in rest:
        if (key := word.lstrip("+").partition("=")[0]) in SAYS_IT:
            raise UserError(f"layouts: {text} says how many there are; leave {key} out")
    if others := sorted(flags & {"-m", "--multirun", "--largest", "--curves"}):
        raise UserError(f"layouts: one run is laid out; leave {others[0]} out")
    return rest, Cluster(int(match[1] or 1), int(match[2]))


def plan_layouts(words: list[str], cluster: Cluster, *, as_json: bool) -> int:
    """Print the cheapest layouts with the words that run them. Raises UserError where none fits."""
    from trainer.books.layouts import layouts
    from trainer.compose import compose

    launcher = ["launch=slurm"] if cluster.nodes > 1 and not any(word.startswith("launch=") for word in words) else []
    nodes = [f"launch.nodes={cluster.nodes}"] if cluster.nodes > 1 else []
    here = [*words, *launcher, *nodes, f"launch.processes={cluster.devices}"]
    try:
        config = compose(here)
    except UserError as error:
        try:  # some layout may do where the one that the run has by itself does not
            config = compose([*words, *launcher])
        except UserError:
            raise error from None
    keys = [word.lstrip("+~").partition("=")[0] for word in words]
    held = frozenset(key.removeprefix("engine.") for key in keys if key.startswith("engine."))
    found = layouts(config, *cluster, held)
    if as_json:
        print(json.dumps({"words": here, **cluster._asdict(), **found.to_json()}, indent=1))
    else:
        verb = "train" if config.launch.name == "local" else "launch"
        print(_text(found, cluster, f"isoflop {verb} {shlex.join(here)}"))
    return 0


def _text(found: Layouts, cluster: Cluster, start: str) -> str:
    devices = (
        f"{cluster.nodes} nodes of {cluster.devices} devices" if cluster.nodes > 1 else f"{cluster.devices} devices"
    )
    title = f"{devices}: {found.fitting:,} of {found.tried:,} layouts fit {found.available / 1e9:.1f} GB a device"
    rows = [COLUMNS, *(_row(number, one) for number, one in enumerate(found.cheapest, start=1))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines = [f"{number:>{widths[0]}}  {start} {' '.join(one.words)}" for number, one in enumerate(found.cheapest, 1)]
    notes = []
    if any(one.host_memory for one in found.cheapest):
        notes = ["  * nothing fits without the hosts' memory; what the way there takes is not in these times"]
    return "\n".join([title, *table, *notes, "", *lines])


def _row(number: int, one: Layout) -> tuple[str, ...]:
    from trainer.books.formatting import format_amount

    assert one.seconds.value is not None
    return (
        str(number),
        format_amount(one.seconds.value, "s"),
        f"{one.tokens_per_second:,.0f}",
        f"{100 * one.utilisation:.1f} %",
        format_amount(one.memory, "bytes"),
        format_amount(one.wire_seconds, "s"),
        format_amount(one.sent, "bytes"),
        format_amount(one.between, "bytes"),
    )
