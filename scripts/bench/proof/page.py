"""The results as a page of Markdown. What is not known is "not stated"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proof.results import Results

NOT_STATED = "not stated"


def said(value: float | None, form: str, factor: float = 1.0) -> str:
    return NOT_STATED if value is None else form.format(value * factor)


def _worst(errors: dict[str, float]) -> str:
    """The output's error and the largest of the gradients', with its name."""
    if not errors:
        return NOT_STATED
    first, *rest = errors.items()
    worst = max(rest, key=lambda pair: pair[1], default=None)
    return f"{first[1]:.1e}" + (f", {worst[0]} {worst[1]:.1e}" if worst else "")


def speed(row: dict[str, Any], peer: str, part: str = "both_seconds") -> float | None:
    """The peer's time over ours."""
    own = row["who"].get("isoflop")
    return row["who"][peer][part] / own[part] if own and peer != "isoflop" else None


def _timed(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| case | who | forward ms | both ms | TFLOP/s or GB/s | speed of ours | error of out, worst gradient "
        "| host us, replay | peak MB | MHz | W |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sensed = row.get("sensors") or {}
        for name, own in row["who"].items():
            if row.get("flop"):
                rate = f"{row['flop'][1] / own['both_seconds'] / 1e12:.0f}"
            elif row.get("moved"):
                rate = f"{row['moved'] / own['both_seconds'] / 1e9:.0f} GB/s"
            else:
                rate = ""
            over = speed(row, name)
            ours = "" if over is None else f"{over:.2f}"
            host = f"{own['host_seconds'] * 1e6:.0f}, {said(own['replay_host_seconds'], '{:.0f}', 1e6)}"
            eager = "" if own["graph"] else " (eager)"
            cells = [
                row["name"],
                name + eager,
                f"{own['forward_seconds'] * 1e3:.3f}",
                f"{own['both_seconds'] * 1e3:.3f}",
            ]
            cells += [rate, ours, _worst(own["error"]), host, said(own["peak_bytes"], "{:.0f}", 1e-6)]
            cells += [said(sensed.get("sm_megahertz"), "{:.0f}"), said(sensed.get("watts"), "{:.0f}")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _steps(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| case | who | ms a step | tokens/s | speed of ours | peak GB | MHz | W |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sensed = row.get("sensors") or {}
        for name, own in row["who"].items():
            over = speed(row, name)
            cells = [row["name"], name, f"{own['both_seconds'] * 1e3:.1f}", f"{own['tokens_per_second']:,.0f}"]
            cells += ["" if over is None else f"{over:.2f}", said(own["peak_bytes"], "{:.2f}", 1e-9)]
            cells += [said(sensed.get("sm_megahertz"), "{:.0f}"), said(sensed.get("watts"), "{:.0f}")]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def page(results: Results) -> str:
    where = results.environment
    rows = list(results.rows.values())
    lines = [f"# The proof on {where['gpu']}", "", f"`{where['command']}`, {where['date']}", ""]
    hidden = ("gpu", "command", "date")
    lines += [
        f"- {name}: {NOT_STATED if value is None else value}" for name, value in where.items() if name not in hidden
    ]
    lines += [f"- part {part}: {became}" for part, became in results.parts.items()]
    tests = [row for row in rows if row["part"] == "tests"]
    counts = {status: sum(row["status"] == status for row in tests) for status in ("passed", "failed", "skipped")}
    lines += [
        "",
        "## Correctness",
        "",
        "`tests/kernels/test_gpu.py`: " + ", ".join(f"{n} {s}" for s, n in counts.items()) + ".",
    ]
    lines += ["", *(f"- {row['name']}: {row['status']}: {row['why']}" for row in rows if row["part"] == "repeats")]
    timed = [row for row in rows if row["part"] in ("attention", "rest") and "who" in row]
    lines += [
        "",
        "## Kernels",
        "",
        "bf16, random numbers, the same tensors every time. A figure is the median of the rounds, in turns, as replays",
        "of CUDA graphs; `both` is forward and backward, TFLOP/s or GB/s are of both, speed is the other's time over",
        "ours. Errors are relative (Frobenius) to the formula in fp64, the loss's in fp32. Host: microseconds of one",
        "eager call of both, and of one replay. Power is the driver's average over about a second.",
        "",
        *_timed(timed),
    ]
    steps = [row for row in rows if row["part"] == "step" and "who" in row]
    lines += ["", "## The whole step", "", "GPT-2 124M, bf16 autocast over fp32 weights, AdamW; the bare loop is", ""]
    lines[-2] += " `scripts/bench/proof/bare_gpt2.py`, compiled."
    lines += _steps(steps)
    left = [
        f"- {row['name']}: {row['status']}: {row['why']}" for row in rows if row["part"] != "repeats" and row.get("why")
    ]
    left += [f"- {row['name']}: {who}: {why}" for row in rows for who, why in row.get("refused", {}).items()]
    left += [f"- {row['name']}: {note}" for row in rows for note in row.get("notes", ())]
    left += [f"- not run: {name}" for name in results.not_run]
    if left:
        lines += ["", "## Left out, failed, skipped", "", *dict.fromkeys(left)]
    return "\n".join(lines) + "\n"
