"""Time the kernels against PyTorch's own on this GPU, and write docs/benchmarks/<gpu>-kernels.{json,md}.

    python scripts/bench/kernels.py            # every case, about five minutes
    python scripts/bench/kernels.py --only t5 loss --quick

Every peer is timed in the same run, in turns, forward and backward together; a figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import torch  # noqa: E402
from environment import environment, write_report  # noqa: E402

ROUNDS = 7
ROUND_SECONDS = 0.05


def seconds(work: Any, repeats: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def peak_bytes(work: Any) -> int:
    """What one pass holds beyond its inputs."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(case: Any) -> dict[str, Any]:
    """Median seconds and peak bytes of each contestant, timed in turns."""
    repeats: dict[str, int] = {}
    refused: dict[str, str] = {}
    memory: dict[str, int] = {}
    for name, work in case.work.items():
        try:
            work()  # compiles
            memory[name] = peak_bytes(work)
            repeats[name] = max(1, round(ROUND_SECONDS / max(seconds(work, 2), 1e-6)))
        except Exception as error:  # a peer may refuse a shape or run out of memory; ours may not
            if name == "isoflop":
                raise
            refused[name] = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    rounds: dict[str, list[float]] = {name: [] for name in repeats}
    for _ in range(ROUNDS):
        for name, count in repeats.items():
            rounds[name].append(seconds(case.work[name], count))
    median = {name: statistics.median(values) for name, values in rounds.items()}
    return {
        "name": case.name,
        "setting": case.setting,
        "goal": case.goal,
        "seconds": median,
        "spread": {name: max(values) / min(values) for name, values in rounds.items()},
        "peak_bytes": memory,
        "flop_per_second": {n: case.flop / t for n, t in median.items()} if case.flop else None,
        "bytes_per_second": case.moved / median["isoflop"] if case.moved else None,
        "speed_over_peer": {name: t / median["isoflop"] for name, t in median.items() if name != "isoflop"},
        "refused": refused,
        "notes": case.notes,
    }


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a copy of 256 MiB."""
    source = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / statistics.median(seconds(lambda: target.copy_(source), 20) for _ in range(ROUNDS))


def table(rows: list[dict[str, Any]], where: dict[str, Any]) -> str:
    """The report as Markdown."""
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
            speed = "" if name == "isoflop" else f"{row['speed_over_peer'][name]:.2f}"
            cells = [row["name"], row["setting"], name, f"{took * 1e3:.3f}", flop, moved]
            lines.append("| " + " | ".join([*cells, f"{row['peak_bytes'][name] / 1e6:.0f}", speed]) + " |")
    lines += ["", "## Goals", ""]
    lines += [f"- {text}" for text in dict.fromkeys(f"{r['name']}: {r['goal']}" for r in rows if r["goal"])]
    left_out = [f"- {r['name']}, {r['setting']}: {n}: {why}" for r in rows for n, why in r["refused"].items()]
    left_out += [f"- {r['name']}, {r['setting']}: {note}" for r in rows for note in r["notes"]]
    if left_out:
        lines += ["", "## Left out", "", *dict.fromkeys(left_out)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="CASE", help="attention t5 packed order loss bandwidth")
    parser.add_argument("--quick", action="store_true", help="leave out the longest sequences")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(2, "kernels: no GPU here, and there is nothing to time without one\n")
    from kernels_cases import CASES

    chosen = arguments.only or list(CASES)
    for name in chosen:
        if name not in CASES:
            parser.error(f"--only: {name!r} is not one of {', '.join(CASES)}")
    where = environment("kernels")
    where["copy_GB_per_second"] = round(copy_bandwidth() / 1e9)
    rows = []
    for name in chosen:
        for case in CASES[name](arguments.quick):
            rows.append(measure(case))
            print(
                f"{case.name}, {case.setting}: "
                + ", ".join(f"{n} {t * 1e3:.3f} ms" for n, t in rows[-1]["seconds"].items()),
                flush=True,
            )
            del case
            torch.cuda.empty_cache()
    stem = write_report(arguments.out, "kernels", {"environment": where, "cases": rows}, table(rows, where))
    print(stem)


if __name__ == "__main__":
    main()
