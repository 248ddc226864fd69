"""What `debug` measured, as curves: gradient noise scale, how far updates move the weights; and what routers did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from trainer.report.plots import BLUE, GREY, ORANGE, PALE, Curve, Plot, is_number, pairs, thin
from trainer.report.run_data import RunData

COLOURS = {"embedding": GREY, "head": "#6b8e23", "vectors": PALE, "attention": BLUE, "feed_forward": ORANGE}


def diagnostic_plots(run_data: RunData) -> list[Plot]:
    """Those that the records have figures for."""
    steps = run_data.steps.kept
    return [
        _noise(thin([one for one in steps if one.get("gradient_noise")]), run_data.config.optim.batch_size),
        _ratios(thin([one for one in steps if one.get("updates")])),
        *_experts(thin([one for one in steps if one.get("experts")])),
    ]


def _noise(records: Sequence[dict[str, Any]], batch: int) -> Plot:
    """Sequences at which the noise is as large as the signal, with its interval, beside those of the steps: `batch`
    where they do not grow."""
    sizes = [(one.get("scheduled") or {}).get("batch_size", batch) for one in records]
    flat = [
        {"tokens": one.get("tokens"), "size": size, **one["gradient_noise"]}
        for one, size in zip(records, sizes, strict=True)
    ]
    x, y = pairs(flat, "tokens", "noise_scale")
    if not x:
        return Plot("", "", "")
    curves = [Curve("noise scale", x, y)]
    for end in ("low", "high"):
        bound = pairs(flat, "tokens", f"noise_scale_{end}")
        if bound[0]:
            curves.append(
                Curve("95 % interval" if end == "low" else "", *bound, colour=PALE, called=f"{end} end of the interval")
            )
    curves.append(Curve("batch size", *pairs(flat, "tokens", "size"), colour=GREY, style="--"))
    return Plot("Gradient noise scale", "tokens", "sequences", curves, from_zero=True)


def _experts(records: Sequence[dict[str, Any]]) -> list[Plot]:
    """How even the loads of experts are, and what they leave out, where they leave out anything."""
    if not records:
        return []
    flat = [one["experts"] | {"tokens": one.get("tokens")} for one in records]

    def plot_of(title: str, unit: str, mean: str, worst: str, **more: Any) -> Plot:
        curves = [
            Curve("all layers", *pairs(flat, "tokens", mean)),
            Curve("worst layer", *pairs(flat, "tokens", worst), GREY),
        ]
        return Plot(title, "tokens", unit, curves, **more) if any(one.get(worst) for one in flat) else Plot("", "", "")

    return [
        plot_of("Loads of experts", "entropy, share of even loads'", "load_entropy", "load_entropy_lowest"),
        plot_of("Choices beyond the capacity", "share", "dropped_share", "dropped_share_highest", from_zero=True),
        plot_of("Experts that no token chose", "experts", "dead_experts", "dead_experts_most", from_zero=True),
    ]


def _ratios(records: Sequence[dict[str, Any]]) -> Plot:
    """RMS of the update over RMS of the weights, by kind of part; of layers the median one."""
    places: dict[str, list[float]] = defaultdict(list)
    ratios: dict[str, list[float]] = defaultdict(list)
    for record in records:
        of_kind: dict[str, list[float]] = defaultdict(list)
        for part, figures in record["updates"].items():
            if is_number(figures.get("ratio")):
                of_kind[part.rpartition(".")[2]].append(figures["ratio"])
        for kind, found in of_kind.items():
            places[kind].append(float(record["tokens"]))
            ratios[kind].append(median(found))
    curves = [Curve(kind.replace("_", "-"), x, ratios[kind], COLOURS.get(kind, BLUE)) for kind, x in places.items()]
    return Plot("Update over weight (RMS), median layer", "tokens", "ratio", curves, from_zero=True)
