"""Time the kernels against PyTorch's own on this GPU, and write docs/benchmarks/<gpu>-kernels.{json,md}.

    python scripts/bench/kernels.py            # every case, at most four minutes
    python scripts/bench/kernels.py --only t5 loss --quick
    TRITON_INTERPRET=1 python scripts/bench/kernels.py --smoke    # tiny shapes on any machine: does it run at all?

Every peer is timed in the same run, in turns, forward and backward together; a figure is the median of the rounds. Each
group of cases runs in a process of its own, and the table is written anew after each: what fails or takes too long is
named in it and loses no other figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import torch  # noqa: E402
from environment import environment, reason, rows_apart, share, write_report  # noqa: E402
from proof.measure import clock  # noqa: E402

ROUNDS = 7
ROUND_SECONDS = 0.05


def measure(case: Any, smoke: bool) -> dict[str, Any]:
    """Median seconds and peak bytes of each contestant, timed in turns; why one could not run. smoke: a pass each."""
    device = clock()
    repeats: dict[str, int] = {}
    refused: dict[str, str] = {}
    memory: dict[str, int] = {}
    for name, work in case.work.items():
        try:
            if not smoke:
                work()  # compiles
            memory[name] = device.peak_bytes(work) or 0
            repeats[name] = 1 if smoke else max(1, round(ROUND_SECONDS / max(device.seconds(work, 2), 1e-6)))
        except Exception as error:  # a shape that is refused, memory that is full, a compiler that gives up
            refused[name] = reason(error)
    rounds: dict[str, list[float]] = {name: [] for name in repeats}
    for _ in range(1 if smoke else ROUNDS):
        for name, count in repeats.items():
            rounds[name].append(device.seconds(case.work[name], count))
    median = {name: statistics.median(values) for name, values in rounds.items()}
    own = median.get("isoflop")
    return {
        "name": case.name,
        "setting": case.setting,
        "goal": case.goal,
        "seconds": median,
        "spread": {name: max(values) / min(values) for name, values in rounds.items()},
        "peak_bytes": memory,
        "flop_per_second": {n: case.flop / t for n, t in median.items()} if case.flop else None,
        "bytes_per_second": case.moved / own if case.moved and own else None,
        "speed_over_peer": {name: t / own for name, t in median.items() if name != "isoflop"} if own else {},
        "refused": refused,
        "notes": case.notes,
    }


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a copy of 256 MiB."""
    source = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return (
        2 * source.numel() / statistics.median(clock().seconds(lambda: target.copy_(source), 20) for _ in range(ROUNDS))
    )


def table(rows: list[dict[str, Any]], failures: dict[str, str], where: dict[str, Any]) -> str:
    """The report as Markdown. failures: group -> what went wrong with it."""
    lines = [f"# Kernels on {where['gpu']}", "", f"`{where['command']}`, {where['date']}", ""]
    lines += [f"- {name}: {value}" for name, value in where.items() if name not in ("gpu", "command", "date")]
    lines += [
        "",
        f"Forward and backward, bf16, median of {ROUNDS} rounds in turns. Speed: the peer's time over ours.",
        "",
        "| case | setting | who | ms | TFLOP/s | GB/s | peak MB | speed of ours over it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for name, took in row["seconds"].items():
            flop = f"{row['flop_per_second'][name] / 1e12:.0f}" if row["flop_per_second"] else ""
            moved = f"{row['bytes_per_second'] / 1e9:.0f}" if row["bytes_per_second"] and name == "isoflop" else ""
            speed = f"{row['speed_over_peer'][name]:.2f}" if name in row["speed_over_peer"] else ""
            cells = [row["name"], row["setting"], name, f"{took * 1e3:.3f}", flop, moved]
            lines.append("| " + " | ".join([*cells, f"{row['peak_bytes'][name] / 1e6:.0f}", speed]) + " |")
    lines += ["", "## Goals", ""]
    lines += [f"- {text}" for text in dict.fromkeys(f"{r['name']}: {r['goal']}" for r in rows if r["goal"])]
    left_out = [f"- {r['name']}, {r['setting']}: {n}: {why}" for r in rows for n, why in r["refused"].items()]
    left_out += [f"- {r['name']}, {r['setting']}: {note}" for r in rows for note in r["notes"]]
    left_out += [f"- {group}: {why}" for group, why in failures.items()]
    if left_out:
        lines += ["", "## Left out", "", *dict.fromkeys(left_out)]
    return "\n".join(lines) + "\n"


def run_group(name: str, options: argparse.Namespace) -> None:
    """Measure one group's cases, a JSON line each."""
    from kernels_cases import CASES

    for case in CASES[name](options.quick):
        row = measure(case, options.smoke)
        print(json.dumps(row), flush=True)
        took = ", ".join(f"{who} {t * 1e3:.3f} ms" for who, t in row["seconds"].items())
        print(f"{case.name}, {case.setting}: {took}", file=sys.stderr, flush=True)
        del case
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="GROUP", help="t5 packed order loss bandwidth attention")
    parser.add_argument("--quick", action="store_true", help="leave out the longest sequences")
    parser.add_argument("--smoke", action="store_true", help="one round; tiny shapes where there is no GPU")
    parser.add_argument("--minutes", type=float, default=4.0, help="what is not done by then is left out")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--group", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.smoke:
        parser.exit(2, "kernels: no GPU here, and there is nothing to time without one\n")
    from kernels_cases import CASES

    if options.group:
        run_group(options.group, options)
        return
    chosen = options.only or list(CASES)
    for name in chosen:
        if name not in CASES:
            parser.error(f"--only: {name!r} is not one of {', '.join(CASES)}")
    end = time.monotonic() + 60 * options.minutes
    where = environment("kernels")
    where["copy_GB_per_second"] = round(copy_bandwidth() / 1e9) if torch.cuda.is_available() else None
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    flags = [f"--{flag}" for flag in ("quick", "smoke") if getattr(options, flag)]
    for done, name in enumerate(chosen):
        found, wrong = rows_apart(["--group", name, *flags], share(end, len(chosen) - done))
        rows += found
        if wrong:
            failures[name] = wrong
        data = {"environment": where, "cases": rows, "failures": failures}
        report = write_report(options.out, "kernels", data, table(rows, failures, where))
    print(report)
    broken = [f"{row['name']}, {row['setting']}" for row in rows if "isoflop" in row["refused"]]
    if broken or failures:
        parser.exit(1, f"kernels: failed: {'; '.join([*broken, *failures])}\n")


if __name__ == "__main__":
    main()
