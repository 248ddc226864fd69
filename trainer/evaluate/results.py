"""What was measured of a run, in its folder: evaluation.json, of the newest checkpoint that was evaluated."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.utils.files import write_atomic

FILE = "evaluation.json"


@contextmanager
def writing_to(run: Path) -> Iterator[None]:
    """Where the folder takes no file, as that of an archive, it is said so: what was measured is shown all the same."""
    try:
        yield
    except OSError as error:
        print(f"isoflop: {run}: the results could not be kept ({error.strerror})", file=sys.stderr)


def keep_results(
    run: Path,
    step: int,
    held_out: dict[str, Any] | None = None,
    tasks: Sequence[dict[str, Any]] = (),
    average: str | None = None,
) -> None:
    """Add to what is known of this checkpoint; results of an earlier one are replaced, and so are equal tasks. Those of
    an average of its weights stand in `averages`, by its name."""
    whole = read_results(run)
    if whole.get("step") != step:
        whole = {"step": step}
    known = whole if average is None else whole.setdefault("averages", {}).setdefault(average, {})
    if held_out is not None:
        known["held_out"] = held_out
    by_key = {(one["task"], one["shots"]): one for one in [*known.get("tasks", []), *tasks]}
    known["tasks"] = [by_key[key] for key in sorted(by_key)]
    whole.setdefault("tasks", [])
    write_atomic(run / FILE, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def read_results(run: Path) -> dict[str, Any]:
    """What is known; nothing where the file is missing or torn."""
    try:
        known = json.loads((run / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


ACCURACIES = ("acc", "acc_norm", "exact_match", "span_em", "group_em")  # metrics that are shares of right answers


def right_answers(result: Mapping[str, Any]) -> dict[str, Any]:
    """Of a task's result, as evaluation.json has it: bits_per_byte of the right answers and accuracy, which is the
    first of its metrics that is one, each with its standard error; null where there is none."""
    accuracy: Mapping[str, Any] = next((result["values"][name] for name in ACCURACIES if name in result["values"]), {})
    bits: Mapping[str, Any] = result.get("bits_per_byte") or {}
    return {
        "bits_per_byte": bits.get("value"),
        "bits_per_byte_error": bits.get("standard_error"),
        "accuracy": accuracy.get("value"),
        "accuracy_error": accuracy.get("standard_error"),
    }


HEADS = ("task", "examples", "items", "metric", "score", "+-", "chance")


def table_of(tasks: Sequence[dict[str, Any]], kinds: bool = True) -> list[tuple[str, ...]]:
    """Rows of text: one a metric, under them one a kind of item, then the right answers' bits per byte. +- is one
    standard error."""
    rows: list[tuple[str, ...]] = []
    for one in tasks:
        for number, (name, value) in enumerate(one["values"].items()):
            first = number == 0
            chance = f"{one['chance']:.3f}" if first and one["chance"] is not None else ""
            shown = (one["task"], str(one["shots"]), str(one["items"])) if first else ("", "", "")
            rows.append((*shown, name, *_cells(value), chance))
        if kinds and len(one["kinds"]) > 1:
            rows += [(f"  {kind}", "", "", "", *_cells(value), "") for kind, value in one["kinds"].items()]
        if one.get("bits_per_byte") and "bits_per_byte" not in one["values"]:
            rows.append(("", "", "", "bits_per_byte", *_cells(one["bits_per_byte"]), ""))
    return rows


def _cells(value: dict[str, Any]) -> tuple[str, str]:
    error = value["standard_error"]
    return f"{value['value']:.3f}", "" if error is None else f"{error:.3f}"


def notes_on(tasks: Sequence[dict[str, Any]]) -> list[str]:
    """What has to be said beside the table."""
    measures = sorted({one["measure"] for one in tasks if one["measure"] != "written text"})
    lines = [f"choices were compared by {measure}" for measure in measures]
    if any(one.get("bits_per_byte") for one in tasks):
        lines.append("bits_per_byte is that of the right answer, over its bytes")
    cut = [one for one in tasks if one["shortened"]]
    if cut:
        which = [f"{one['task']} with {one['shots']} examples: {one['shortened']} of {one['items']}" for one in cut]
        lines.append(f"contexts longer than the model, cut on the left and not in the curve ({', '.join(which)})")
    return lines
