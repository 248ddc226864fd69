"""card.md: what the Hugging Face hub shows of a model, with its emissions in grams."""

from __future__ import annotations

from typing import Any

import yaml

from trainer.books.branch import branch_line, read_branch
from trainer.books.continued import initial_line, read_lineage
from trainer.books.equivalents import STRUBELL
from trainer.books.formatting import REPORT, format_price_tag, format_quantity
from trainer.plugins import origin
from trainer.report.policy import loss_unit, policy_lines
from trainer.report.run_data import RunData
from trainer.utils.which_weights import merged_in, merged_line

PIPELINES = {"decoder": "text-generation", "encoder": "fill-mask", "encoder_decoder": "text2text-generation"}


def front_matter(run_data: RunData) -> dict[str, Any]:
    """The hub's metadata. `co2_eq_emissions` appears only where a figure is known."""
    data: dict[str, Any] = {
        "tags": [
            "isoflop",
            "pre-training",
            run_data.config.model.name,
            run_data.config.objective.name,
        ],
        "pipeline_tag": PIPELINES[run_data.config.model.family],
    }
    emitted = emissions(run_data)
    return data | ({"co2_eq_emissions": emitted} if emitted else {})


def emissions(run_data: RunData) -> dict[str, Any] | None:
    """The hub's `co2_eq_emissions`, in grams; none where no figure is known."""
    carbon = run_data.tag["carbon.kgco2e"].measured
    if carbon is None or carbon.value is None:
        return None
    site, machine = run_data.site.name, run_data.config.machine.name
    return {
        "emissions": carbon.value * 1000,
        "source": f"{carbon.provenance}: {carbon.source}",
        "training_type": "pre-training" if run_data.config.task.kind is None else "fine-tuning",
        **({"geographical_location": site} if site != "unstated" else {}),
        **({"hardware_used": machine} if machine != "unstated" else {}),
    }


def card(run_data: RunData) -> str:
    """The model card as Markdown."""
    config, best = run_data.config, run_data.best
    facts = [
        f"- {config.model.family} `{config.model.name}`, {format_quantity(_planned(run_data), '')} parameters",
        f"- objective `{config.objective.name}`, data `{config.data.name}`, science hash `{config.science_hash()}`",
        f"- status: {run_data.status}",
    ]
    if (lineage := read_lineage(run_data.run)) is not None:
        facts.append(f"- began with the {initial_line(lineage)}, science hash `{lineage['science_hash']}`")
    if (branch := read_branch(run_data.run)) is not None:
        facts.append(f"- {branch_line(branch)}, science hash `{branch['science_hash']}`")
    if best:
        facts.append(f"- held-out {_held_out(best, loss_unit(config))}")
    facts += [f"- {line}" for line in (*policy_lines(run_data.steps.kept), *averages_lines(run_data))]
    for one in run_data.plugins:
        facts.append(f"- plugin `{one.get('name')}`, {origin(one)}, sha256 `{str(one.get('sha256'))[:12]}`")
    sources = run_data.steps.kept[-1].get("sources") if run_data.steps.kept else None
    if sources and len(sources) > 1:
        whole = sum(sources.values())
        shares = ", ".join(f"{name} {tokens:,} ({tokens / whole:.1%})" for name, tokens in sources.items())
        facts.append(f"- tokens read of each source: {shares}")
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front_matter(run_data), sort_keys=False, allow_unicode=True).strip(),
            "---",
            "",
            f"# {config.experiment}",
            "",
            *facts,
            "",
            "## Price tag",
            "",
            "```",
            format_price_tag(run_data.tag, REPORT),
            "```",
            "",
            *_equivalents(run_data),
        ]
    )


def _held_out(best: dict[str, Any], unit: str) -> str:
    """The lowest loss on held-out text, and that of a model without context over the same targets."""
    if best.get("bits_per_byte") is None:
        name, figure = "loss", f"loss {best['loss']:.4f} {unit}"
    else:
        name, figure = "bits_per_byte", f"{best['bits_per_byte']:.4f} bits per byte"
    yardstick = best.get(f"unigram_{name}")
    beside = "" if yardstick is None else f" (the same tokens without context: {yardstick:.4f})"
    return f"{figure} after {best['tokens']:,} tokens{beside}"


def averages_lines(run_data: RunData) -> list[str]:
    """What is known of the averages of the weights: the last held-out loss of each, and what was merged."""
    last = run_data.steps.evaluations[-1] if run_data.steps.evaluations else {}
    losses = (last.get("averages") or {}).items()
    lines = [
        f"average `{name}`: held-out loss {loss:.4f} nats per target after step {last['step']}" for name, loss in losses
    ]
    return lines + [f"average `{name}`: {merged_line(run_data.run, name)}" for name in merged_in(run_data.run)]


def _equivalents(run_data: RunData) -> list[str]:
    rows = [f"| {name} | {times:.2g} x |" for name, times in run_data.tag.equivalents.items()]
    return [f"| as much carbon as ({STRUBELL}) | |", "|---|---|", *rows, ""] if rows else []


def _planned(run_data: RunData) -> Any:
    from trainer.books import Quantity, parameters

    return Quantity(parameters(run_data.config).total, "exact")
