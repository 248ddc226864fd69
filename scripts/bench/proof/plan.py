"""What the proof on a GPU runs, in which order and for how long. Imports no torch: any machine can print the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

# Seconds of the parts in a proof of eight minutes, the most valuable first; the rest is for starting and writing.
PARTS = {"compile": 65.0, "tests": 120.0, "attention": 150.0, "rest": 35.0, "repeats": 20.0, "step": 75.0}
WHOLE = 480.0
TOKENS = 16384  # of every attention case: the batch times the length
HIDDEN = 2048  # heads times head size, as in FlashAttention's benchmark


@dataclass(frozen=True)
class Case:
    """A row of the report: its name, its part, and how long it should take once its kernels are compiled (seconds)."""

    name: str
    part: str
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Planned:
    """A case and when it should begin, seconds after the proof; fits: before the end of its part's share."""

    case: Case
    begins: float
    fits: bool


# (kind, head size, lengths), the most valuable first; packed: documents of about 1,024 tokens, causal; window: the last
# 1,024 tokens; gqa: four query heads to a key head, causal; order: XLNet's content stream.
_ATTENTION: tuple[tuple[str, int, tuple[int, ...]], ...] = (
    ("causal", 64, (8192,)), ("causal", 128, (8192,)), ("packed", 64, (8192,)), ("packed", 128, (8192,)),
    ("full", 64, (8192,)), ("full", 128, (8192,)), ("t5", 64, (2048, 512)), ("window", 64, (8192,)),
    ("window", 128, (8192,)), ("gqa", 128, (8192,)), ("causal", 64, (2048, 16384)), ("causal", 128, (2048, 16384)),
    ("packed", 64, (2048,)), ("packed", 128, (2048,)), ("packed", 128, (16384,)), ("full", 64, (2048,)),
    ("full", 128, (2048,)), ("order", 64, (2048,)), ("gqa", 64, (8192,)), ("t5", 128, (2048,)),
    ("dropout", 64, (2048,)),
    ("causal", 64, (1024, 4096)), ("causal", 128, (1024, 4096)), ("full", 64, (1024, 4096, 16384)),
    ("full", 128, (1024, 4096, 16384)), ("causal", 256, (8192,)),
)  # fmt: skip


def flex_is_asked(kind: str, length: int) -> bool:
    """Flex compiles for every shape anew, so it is asked where it says most."""
    return length == 8192 or kind in ("t5", "order")


def _attention() -> Iterator[Case]:
    for kind, head, lengths in _ATTENTION:
        for length in lengths:
            seconds = 3.0 + 2.0 * flex_is_asked(kind, length)
            settings = {"kind": kind, "head": head, "length": length}
            yield Case(f"attention/{kind}/{head}/{length}", "attention", seconds, settings)


def cases() -> list[Case]:
    """Every case but those of the warm-up, which is every case once; in the order in which they run."""
    tests = [Case("tests/test_gpu.py", "tests", PARTS["tests"])]
    rest = [
        Case("loss/50257", "rest", 4.0, {"classes": 50257}),
        Case("loss/50304", "rest", 4.0, {"classes": 50304}),
        Case("norm/rms", "rest", 2.0),
        Case("norm/layer", "rest", 2.0),
        Case("norm/sum and rms", "rest", 2.0),
        Case("t5 table/64/2048", "rest", 3.0, {"kind": "t5", "head": 64, "length": 2048}),
        Case("rotary", "rest", 2.0),
        Case("swiglu", "rest", 2.0),
    ]
    repeats = [
        Case(f"repeats/{passes}/{kind}/{head}", "repeats", 2.0, {"passes": passes, "kind": kind, "head": head})
        for passes in ("ordered", "two_pass")
        for kind, head in (("causal", 64), ("packed", 64), ("packed", 128))
    ]
    step = [
        Case("step/defaults", "step", 35.0, {"kernels": None, "compile": True}),
        Case("step/triton", "step", 20.0, {"kernels": "triton", "compile": True}),
        Case("step/not compiled", "step", 10.0, {"kernels": None, "compile": False}),
    ]
    return [*tests, *_attention(), *rest, *repeats, *step]


def chosen(only: Sequence[str]) -> list[Case]:
    """The cases whose name begins with one of `only`; all of them where it is empty."""
    return [case for case in cases() if not only or case.name.startswith(tuple(only))]


def limit(part: str, remaining: float, to_come: Sequence[str]) -> float:
    """Seconds that a part may take of those that remain: its share among the parts to come (itself the first of them),
    so what one leaves goes to all that follow, and one that hangs takes nothing from them."""
    return remaining * PARTS[part] / sum(PARTS[name] for name in to_come)


def plan(minutes: float, wanted: Sequence[Case]) -> list[Planned]:
    """When each case should begin in a proof of so many minutes, and whether its part has the time for it."""
    begins, found = 0.0, []
    scale = 60 * minutes / WHOLE
    for part, share in PARTS.items():
        at = begins
        own = [Case("compile", part, share * scale)] if part == "compile" else [c for c in wanted if c.part == part]
        for case in own:
            took = min(case.seconds, share * scale) if part == "tests" else case.seconds
            fits = at + took <= begins + share * scale + 1e-9
            found.append(Planned(case, at, fits))
            at += took if fits else 0.0
        begins += share * scale
    return found


def told(minutes: float, wanted: Sequence[Case]) -> str:
    """The plan as lines of text."""
    lines = [f"{minutes:g} minutes: seconds from the start, seconds planned, case", ""]
    for planned in plan(minutes, wanted):
        case = planned.case
        at = f"{planned.begins:6.0f}" if planned.fits else " spare"
        lines.append(f"{at} {case.seconds:5.0f}  {case.name}")
    lines += ["", "spare: runs where cases before it took less time than planned"]
    return "\n".join(lines)
