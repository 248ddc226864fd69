"""Pictures of a profile: where the time of a step goes, as an icicle, and what the allocator held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Protocol

from trainer.report.plots import canvas, drawn, label_axes, prefixes
from trainer.training.memory_history import Held

WIDTH, ROW, LEAST = 1200, 20, 1.0  # pixels: of the picture, of a row, of a frame that is drawn
DEEPEST = 12
LETTER = 6.2  # pixels of one, on average
POINTS = 2000
# Beginning of a name -> colour; the first that fits counts.
COLOURS = {"phase: ": "#9aa5b1", "aten::": "#f2b37a", "autograd::": "#8cc9a1", "": "#8fb4e0"}


class Timed(Protocol):
    @property
    def path(self) -> tuple[str, ...]: ...

    @property
    def seconds(self) -> float: ...


def flame_svg(frames: Iterable[Timed], steps: int) -> str:
    """An icicle of frames: what is inside of another lies below it, as wide as the time that it took.

    Every frame has its name, milliseconds a step and share as a title, which a browser shows under the pointer.
    """
    inside: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    seconds: dict[tuple[str, ...], float] = {}
    for frame in frames:
        seconds[frame.path] = frame.seconds
        inside.setdefault(frame.path[:-1], []).append(frame.path)
    whole = sum(seconds[path] for path in inside.get((), ())) or 1.0
    boxes: list[str] = []
    deepest = 0

    def draw(paths: list[tuple[str, ...]], left: float) -> None:
        nonlocal deepest
        for path in sorted(paths, key=lambda one: (-seconds[one], one)):
            width = WIDTH * seconds[path] / whole
            if width < LEAST or len(path) > DEEPEST:
                continue
            deepest = max(deepest, len(path))
            boxes.append(_box(path, left, width, seconds[path] / steps, seconds[path] / whole))
            draw(inside.get(path, []), left)
            left += width

    draw(inside.get((), []), 0.0)
    height = ROW * (deepest + 2)
    head = f'<text x="4" y="14">one step: {1e3 * whole / steps:.1f} ms of the host under the profiler</text>'
    style = "<style>text{font:11px sans-serif;fill:#1b1f24}rect{stroke:#fff;stroke-width:.5}</style>"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
    back = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    label = "<title>Where the time of a training step goes</title>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{label}{style}{back}{head}{"".join(boxes)}</svg>\n'


def _box(path: tuple[str, ...], left: float, width: float, step_seconds: float, share: float) -> str:
    name, top = path[-1], ROW * len(path)
    colour = next(colour for beginning, colour in COLOURS.items() if name.startswith(beginning))
    told = f"{' / '.join(path)}: {1e3 * step_seconds:.2f} ms a step, {100 * share:.1f} %"
    fits = int((width - 6) / LETTER)
    shown = name.removeprefix("phase: ").removeprefix("autograd::engine::evaluate_function: ")
    shown = shown if len(shown) <= fits else f"{shown[: max(fits - 1, 0)]}…" if fits > 3 else ""
    text = f'<text x="{left + 3:.1f}" y="{top + 14}">{escape(shown)}</text>' if shown else ""
    box = f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}" fill="{colour}"/>'
    return f"<g><title>{escape(told)}</title>{box}{text}</g>"


def memory_timeline(trace: Path) -> list[Held]:
    """What a trace of PyTorch's profiler says of memory, of its most used device. Empty where it says nothing."""
    events = json.loads(trace.read_text())["traceEvents"]
    told: dict[tuple[int, int], list[Held]] = {}
    for event in events:
        if event.get("name") == "[memory]" and "Total Allocated" in event.get("args", {}):
            said = event["args"]
            device = (said.get("Device Type", 0), said.get("Device Id", 0))
            told.setdefault(device, []).append(Held(event["ts"] / 1e6, said["Total Allocated"]))
    if not told:
        return []
    points = sorted(max(told.values(), key=lambda held: max(one.bytes for one in held)))
    return [Held(one.seconds - points[0].seconds, one.bytes) for one in points]


def memory_svg(timeline: Sequence[Held]) -> bytes:
    """The timeline as steps: at most POINTS points, the largest of each stretch of time."""
    stride = -(-len(timeline) // POINTS) or 1
    stretches = (timeline[start : start + stride] for start in range(0, len(timeline), stride))
    shown = [max(stretch, key=lambda one: one.bytes) for stretch in stretches]
    with canvas(9.0, 3.1) as (figure, axes):
        axes.step([one.seconds for one in shown], [one.bytes for one in shown], where="post", linewidth=0.8)
        label_axes(axes, "memory of the allocator in the traced steps", "seconds", "bytes")
        axes.yaxis.set_major_formatter(prefixes())
        return drawn(figure, "svg")
