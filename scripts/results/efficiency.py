"""Shares of machines' peaks from published tables, by machine and year of their software.

    scripts/results/efficiency --tables <folder> [--out trainer/books/efficiency.json]    or ISOFLOP_THROUGHPUT_TABLES

The folder holds llm-foundry.csv: llm-foundry's benchmark (github.com/mosaicml/llm-foundry, scripts/train/benchmarking
at 061f2c7, 2023): bf16, MPT, FSDP with weights in bf16. PYTHIA below is software of 2022. Chips of one architecture
have one entry each with the same shares: what differs between them is on their datasheets. Each table is predicted by
shares that were fitted to the other tables of its architecture and year, so that no row of it was seen; what these
predictions miss is the interval that is written, and no less than other software of the same year misses.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from trainer.books.efficiency import ARCHITECTURES, TABLE, Efficiency  # noqa: E402
from trainer.books.refit import Timed, fit_shares, middle, ratio, spread, timed  # noqa: E402
from trainer.config import Config  # noqa: E402
from trainer.utils.errors import UserError, nearest  # noqa: E402

YEAR = 2023
SOURCE = "llm-foundry scripts/train/benchmarking at 061f2c7 (2023)"
NETWORK = {"h100-sxm": 50e9, "a100-sxm-80gb": 25e9, "a100-sxm-40gb": 25e9}  # B/s a GPU; 1,600 Gb/s a host of A100s
WIDE = 128  # GPUs from which on the rows of H100s are a table of their own
# No interval is narrower: what other software of the same time does on the same chips (tests/trainer/books/
# published_rows.py), of which torchtitan is the quickest and LLaMA-7B in transformers' own code the slowest.
LEAST_FASTER, LEAST_SLOWER = 1.25, 1.6
START = Efficiency("", YEAR, 0.7, 0.3, 0.3, 1.0, 1.0, SOURCE)
# GPU hours for 299.9 billion tokens, in steps of 1,024 x 2,048 (Biderman et al. 2023, appendix; GPT-NeoX, A100 40 GB,
# ZeRO 1, activation checkpointing): depth, width, heads, GPUs, hours, micro-batch. The two largest have tensor
# parallelism and are left out.
PYTHIA = (
    (6, 512, 8, 32, 510, 32),
    (12, 768, 12, 32, 1030, 32),
    (24, 1024, 16, 32, 2540, 16),
    (16, 2048, 8, 64, 4830, 16),
    (24, 2048, 16, 64, 7120, 16),
    (32, 2560, 32, 64, 14240, 8),
)
PYTHIA_SOURCE = "Biderman et al. 2023 (Pythia), table of GPU hours: GPT-NeoX of 2022"


def rows_of(folder: Path) -> dict[str, list[Timed]]:
    """Table -> its rows. Raises UserError where there is none, or one is of a machine that nobody knows."""
    file = folder / "llm-foundry.csv"
    if not file.is_file():
        raise UserError(f"{file}: no such table; give --tables or ISOFLOP_THROUGHPUT_TABLES the folder that has it")
    tables: dict[str, list[Timed]] = {}
    with file.open() as lines:
        for row in csv.DictReader(lines):
            machine = row["machine"]
            if machine not in NETWORK:
                raise UserError(
                    f"{file}: machine {machine!r}: no efficiency is fitted for it{nearest(machine, NETWORK)}"
                )
            name = f"{machine}, {WIDE} GPUs and more" if _is_wide(row) else machine
            tokens = int(row["global_batch"]) * int(row["sequence_length"]) / int(row["gpus"])
            told = f"{row['model']} {row['sequence_length']} x {row['micro_batch']} on {row['gpus']}"
            seconds = tokens / float(row["tokens_per_second_per_gpu"])
            tables.setdefault(name, []).append(timed(configuration(row), seconds, told))
    return tables


def pythia() -> list[Timed]:
    """Steps of Pythia's models."""
    sheet = yaml.safe_load((ROOT / "conf" / "machine" / "a100-sxm-40gb.yaml").read_text())
    kind = {"gated": False, "activation": "gelu", "norm": "layernorm", "bias": True, "parallel": True, "tied": False}
    kind |= {"rotary_fraction": 0.25, "vocabulary": 50304}
    rows = []
    for depth, width, heads, gpus, hours, micro in PYTHIA:
        config = Config.model_validate(
            {
                "model": kind | {"depth": depth, "width": width, "heads": heads},
                "data": {"sequence_length": 2048, "boundaries": False},
                "optim": {"batch_size": 1024},
                "launch": {"name": "slurm", "nodes": gpus // 8, "processes": 8},
                "engine": {"zero_stage": 1, "micro_batch": micro, "compile": False, "activation_checkpointing": True},
                "machine": sheet | {"network_bandwidth": 25e9},
            }
        )
        rows.append(timed(config, 1024 * 2048 / gpus / (299.9e9 / hours / 3600), f"{depth} x {width}"))
    return rows


def _is_wide(row: dict[str, str]) -> bool:
    return row["machine"] == "h100-sxm" and int(row["gpus"]) >= WIDE


def configuration(row: dict[str, str]) -> Config:
    """The set-up of one row."""
    gpus, machine = int(row["gpus"]), row["machine"]
    shape = {name: int(row[name]) for name in ("depth", "width", "heads", "vocabulary")}
    kind = {"position": "alibi", "gated": False, "activation": "gelu", "norm": "layernorm"}
    sheet = yaml.safe_load((ROOT / "conf" / "machine" / f"{machine}.yaml").read_text())
    return Config.model_validate(
        {
            "model": shape | kind,
            "data": {"sequence_length": int(row["sequence_length"])},
            "optim": {"batch_size": int(row["global_batch"])},
            "launch": {"processes": 8} if gpus <= 8 else {"name": "slurm", "nodes": gpus // 8, "processes": 8},
            "engine": {
                "zero_stage": 3,
                "wire": "bf16",
                "wire_gradients": "bf16",
                "keep_gathered": row["sharding"] == "SHARD_GRAD_OP",
                "micro_batch": int(row["micro_batch"]),
                "activation_checkpointing": row["activation_checkpointing"] == "True",
            },
            "machine": sheet | {"network_bandwidth": NETWORK[machine]},
        }
    )


def held_out(tables: dict[str, list[Timed]]) -> dict[str, list[float]]:
    """Table -> planned over published time of its rows, by shares of the other tables of its architecture."""
    found = {}
    for name, rows in tables.items():
        alike = [one for other, part in tables.items() if other != name and _chip(other) == _chip(name) for one in part]
        shares = fit_shares(alike, START)
        found[name] = [ratio(row, shares) for row in rows]
    return found


def _machine(table: str) -> str:
    return table.partition(",")[0]


def _chip(table: str) -> str:
    return ARCHITECTURES[_machine(table)]


def entries(tables: dict[str, list[Timed]], unseen: dict[str, list[float]]) -> Iterable[Efficiency]:
    """An entry a machine: shares of all rows of its architecture, with the interval of rows that a fit had not seen."""
    for chip in sorted({_chip(name) for name in tables}):
        rows = [row for name, part in tables.items() if _chip(name) == chip for row in part]
        fitted = _rounded(fit_shares(rows, START))
        for machine in sorted({_machine(name) for name in tables if _chip(name) == chip}):
            missed = [one for name, ratios in unseen.items() if _machine(name) == machine for one in ratios]
            yield _with_interval(fitted, machine, spread(missed))
    # All of one length: the share of scores, which others tell apart by lengths, stays.
    older = _rounded(fit_shares(pythia(), fitted_of(tables, "sm_80"), ("products", "memory")))
    missed = [ratio(row, older) for row in pythia()]
    for machine in ("a100-sxm-40gb", "a100-sxm-80gb"):
        yield replace(_with_interval(older, machine, spread(missed)), software=2022, source=PYTHIA_SOURCE)


def fitted_of(tables: dict[str, list[Timed]], chip: str) -> Efficiency:
    return fit_shares([row for name, part in tables.items() if _chip(name) == chip for row in part], START)


def _rounded(fitted: Efficiency) -> Efficiency:
    return replace(fitted, **{name: round(getattr(fitted, name), 3) for name in ("products", "scores", "memory")})


def _with_interval(fitted: Efficiency, machine: str, missed: tuple[float, float]) -> Efficiency:
    faster, slower = max(missed[0], LEAST_FASTER), max(missed[1], LEAST_SLOWER)
    return replace(fitted, machine=machine, faster=round(faster, 2), slower=round(slower, 2))


def report(tables: dict[str, list[Timed]], unseen: dict[str, list[float]], found: list[Efficiency]) -> str:
    lines = [
        "table                          rows  fitted: median   within 10%   held out: median      least to most  "
        "in the interval"
    ]
    for name, rows in tables.items():
        entry = next(one for one in found if one.machine == _machine(name) and one.software == YEAR)
        seen, ratios = [ratio(row, entry) for row in rows], unseen[name]
        near = sum(abs(one - 1) < 0.1 for one in seen) / len(seen)
        inside = sum(1 / entry.slower <= one <= entry.faster for one in ratios)
        lines.append(
            f"{name:<30}{len(rows):>5}{middle(seen):>16.2f}{near:>13.0%}{middle(ratios):>19.2f}"
            f"{min(ratios):>12.2f} to {max(ratios):.2f}{inside:>9} of {len(ratios)}"
        )
    for one in found:
        lines.append(
            f"{one.machine}, software of {one.software}: products {one.products:.2f}, scores {one.scores:.2f}, memory "
            f"{one.memory:.2f}; planned / {one.faster:.2f} to planned x {one.slower:.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("ISOFLOP_THROUGHPUT_TABLES"))
    parser.add_argument("--out", type=Path, help=f"write the entries, e.g. {TABLE.relative_to(ROOT)}")
    options = parser.parse_args()
    if options.tables is None:
        raise UserError("name the folder of tables: --tables <folder> or ISOFLOP_THROUGHPUT_TABLES=<folder>")
    tables = rows_of(Path(options.tables))
    unseen = held_out(tables)
    found = list(entries(tables, unseen))
    print(report(tables, unseen, found))
    if options.out:
        from trainer.utils.files import write_atomic

        content: dict[str, Any] = {"made_by": "scripts/results/efficiency", "entries": [one.to_json() for one in found]}
        write_atomic(options.out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"efficiency: {error}")
