"""What forms of documentation ask about cost, answered from facts: each field with its form, its date and its boundary.

What nobody stated is a field without a value, and is listed as such. The forms were read in November 2026:

    eu      Model Documentation Form of the EU's General-Purpose AI Code of Practice (transparency), 10 July 2025
    spdx    SPDX 3.0.1, profile AI, class EnergyConsumption
    sci     Software Carbon Intensity for AI (Green Software Foundation, draft), over ISO/IEC 21031:2024
    hub     metadata of a model card of the Hugging Face hub, co2_eq_emissions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from trainer.books.quantity import Quantity, exact, not_stated
from trainer.books.records import read_json
from trainer.publish.facts import Facts, name_of
from trainer.report.card import emissions


@dataclass(frozen=True)
class Form:
    """A form of documentation."""

    title: str
    date: str  # of the version that the fields are of


FORMS = {
    "eu": Form("EU General-Purpose AI Code of Practice, Model Documentation Form", "2025-07-10"),
    "spdx": Form("SPDX 3.0.1, profile AI", "2024-12"),
    "sci": Form("Software Carbon Intensity for AI, draft, provider's score (ISO/IEC 21031:2024)", "2026-11"),
    "hub": Form("Hugging Face model card, co2_eq_emissions", "2026-11"),
}
FINAL = "the training of the published model alone, all its attempts"
ALL_RUNS = "all runs of the root: final, tuning, failed and killed ones"
NOT_COUNTED = (
    "commands that only look, publish and verify, and what programs in Python call",
    "storage of data and checkpoints",
    "networks beyond the devices that were read: switches, transfers of data and weights",
    "what runs elsewhere: collection and cleaning of data, work outside of this root",
    "people: travel, offices, their own computers",
    "use of the model after training",
)


@dataclass(frozen=True)
class Answer:
    """One field of a form."""

    form: str  # key of FORMS
    field: str  # as the form calls it
    value: float | str | None  # null: nobody stated it
    unit: str
    provenance: str
    source: str
    boundary: str  # what the value is of
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "form_title": FORMS[self.form].title, "form_date": FORMS[self.form].date}


def answers(facts: Facts) -> list[Answer]:
    """Every field of every form, in the order of the forms."""
    return [*_eu(facts), *_spdx(facts), *_sci(facts), *_hub(facts)]


def _answer(form: str, field: str, figure: Quantity, unit: str, boundary: str) -> Answer:
    return Answer(form, field, figure.value, unit, figure.provenance, figure.source, boundary, figure.low, figure.high)


def _said(form: str, field: str, text: str | None, source: str, boundary: str = "the published model") -> Answer:
    known = "not stated" if text is None else "stated"
    return Answer(form, field, text, "", known, source, boundary)


# --- the EU's form ---

# What the form asks and no run folder can know.
EU_OF_THE_PROVIDER = (
    "Legal name for the model provider",
    "Release date",
    "Union market release date",
    "Distribution channels",
    "License",
    "Acceptable use policy",
    "Intended uses",
    "Type and nature of AI systems in which the model can be integrated",
    "Decision rationale",
    "How data was obtained and selected",
    "Data curation methodologies",
    "Measures to detect unsuitability of data sources",
    "Measures to detect identifiable biases",
)


def _eu(facts: Facts) -> list[Answer]:
    run, config = facts.model, facts.model.config
    weights = weights_hash(facts)
    parents = ", ".join("/".join(Path(one).parts[-2:]) for one in (config.task.parent, config.init.run) if one) or "N/A"
    flop, seconds, hours = (facts.figure(key) for key in ("flop.total", "time.wall", "machine.device_hours"))
    energy = facts.figure("energy.kwh")
    texts = [
        _said("eu", "Model name", str(facts.settings.get("name") or name_of(run)), "publish name=, or the run's"),
        _said("eu", "Model authenticity", weights, "sha256 of the weights' files in the checkpoint's manifest"),
        _said("eu", "Model dependencies", parents, "task.parent, init.run"),
        _said("eu", "Model architecture", f"transformer, {config.model.family}, {config.model.name}", "config.yaml"),
        _said("eu", "Design specifications of the model", _design(facts), "config.yaml"),
        _said("eu", "Input modalities", f"text, at most {config.data.sequence_length} tokens", "data.sequence_length"),
        _said("eu", "Output modalities", "text", "model.family"),
        _said("eu", "Type of data used for training", "text", "data"),
        _said("eu", "Design specifications of the training process", _training(facts), "config.yaml"),
    ]
    figures = [
        ("Total model size", exact(facts.parameters, "count of all trained parameters"), "parameters"),
        ("Size of training data", facts.figure("data.tokens"), "tokens"),
        ("Training time, wall clock", seconds / 86400, "days"),
        ("Training time, hardware", hours / 24, "device-days"),
        ("Amount of computation used for training", flop, "FLOP"),
        ("Amount of energy used for training", energy / 1000, "MWh"),
    ]
    methods = [
        _said("eu", "Computation: measurement methodology", "counted: " + flop.source, "books", FINAL),
        _said("eu", "Energy: measurement methodology", energy.source or None, "meter", FINAL),
    ]
    nobody = [_said("eu", name, None, "asked of the provider") for name in EU_OF_THE_PROVIDER]
    inference = ("Benchmarked amount of computation used for inference", "Inference: measurement methodology")
    nobody += [_said("eu", name, None, "no run benchmarks inference", "use of the model") for name in inference]
    return [*texts, *(_answer("eu", name, figure, unit, FINAL) for name, figure, unit in figures), *methods, *nobody]


def weights_hash(facts: Facts) -> str | None:
    """Of the model's files in the newest checkpoint; null where no manifest was copied."""
    manifests = sorted(facts.model.run.glob("checkpoints/step-*/manifest.json"))
    said = read_json(manifests[-1]) if manifests else None
    files = said.get("files", {}) if isinstance(said, dict) else {}
    found = [f"{name} {one['sha256']}" for name, one in sorted(files.items()) if name.startswith("model")]
    return "; ".join(found) or None


def _design(facts: Facts) -> str:
    model = facts.model.config.model
    return f"depth {model.depth}, width {model.width}, {model.heads} heads, {facts.parameters:,} parameters"


def _training(facts: Facts) -> str:
    config = facts.model.config
    kind = f"tuned on {config.task.kind}" if config.task.kind else f"objective {config.objective.name}"
    return f"{kind}, optimizer {config.optim.name}, batches of {config.optim.batch_size}, {facts.model.numerics}"


# --- SPDX ---


def _spdx(facts: Facts) -> list[Answer]:
    energy, tuned = facts.figure("energy.kwh"), facts.model.config.task.kind is not None
    of_it = "ai_finetuningEnergyConsumption" if tuned else "ai_trainingEnergyConsumption"
    found = []
    for field in ("ai_trainingEnergyConsumption", "ai_finetuningEnergyConsumption", "ai_inferenceEnergyConsumption"):
        figure = energy if field == of_it else not_stated("no run of this root did it for the published model")
        found.append(_answer("spdx", field, figure, "kilowattHour", FINAL if field == of_it else "not stated"))
    return found


def spdx_element(found: Sequence[Answer]) -> dict[str, Any]:
    """`ai_energyConsumption` as it stands in a document of SPDX; only what is known."""
    known = [one for one in found if one.form == "spdx" and isinstance(one.value, int | float)]
    parts = {
        one.field: [
            {
                "type": "ai_EnergyConsumptionDescription",
                "ai_energyQuantity": format(Decimal(repr(one.value)), "f"),
                "ai_energyUnit": one.unit,
            }
        ]
        for one in known
    }
    return {"type": "ai_EnergyConsumption", **parts}


# --- SCI for AI ---


def _sci(facts: Facts) -> list[Answer]:
    """Of the provider: (E x I + M) over all runs, by each of the units that the draft allows."""
    energy, operational = facts.whole("kwh"), facts.whole("kgco2e") * 1000
    embodied = facts.whole("embodied_kgco2e") * 1000
    flop, tokens = facts.total("flop")[0], facts.figure("data.tokens").value
    rows = [
        _answer("sci", "E, energy consumed", energy, "kWh", ALL_RUNS),
        _answer("sci", "E x I, operational emissions", operational, "g CO2e", ALL_RUNS),
        _answer("sci", "M, embodied emissions", embodied, "g CO2e", ALL_RUNS),
    ]
    per = "operational emissions alone: M is not stated" if embodied.value is None else "with M of all runs"
    whole = operational if embodied.value is None else operational + embodied
    units = [
        ("R per FLOP", flop, 1e-18, "g CO2e per 1e18 FLOP"),
        ("R per training token", tokens, 1e-6, "g CO2e per million tokens"),
        ("R per parameter", float(facts.parameters), 1e-9, "g CO2e per billion parameters"),
    ]
    for name, amount, scale, unit in units:
        score = whole / (amount * scale) if amount else not_stated("no such amount")
        rows.append(_answer("sci", f"SCI, provider, {name}", score, unit, f"{ALL_RUNS}; {per}"))
    stages = [
        ("Data engineering", "what other commands than training cost is in their records"),
        ("System integration", "no run does it"),
        ("End of life", "no run does it"),
        ("SCI, consumer", "no run serves the model"),
    ]
    return rows + [_said("sci", name, None, why, "outside of this root's runs") for name, why in stages]


# --- the hub ---


def _hub(facts: Facts) -> list[Answer]:
    said = hub_fields(facts)
    carbon = facts.figure("carbon.kgco2e")
    rows = [_answer("hub", "emissions", carbon * 1000, "g CO2e", FINAL)]
    return rows + [
        _said("hub", name, said.get(name), where)
        for name, where in (
            ("source", "the meter, and the site's intensity"),
            ("training_type", "task.kind"),
            ("geographical_location", "site"),
            ("hardware_used", "machine, or the host's processor"),
        )
    ]


def hub_fields(facts: Facts) -> dict[str, Any]:
    """`co2_eq_emissions` of the model; without `emissions` where no figure is known, which is then not to be put into a
    card."""
    run = facts.model
    tuned = run.config.task.kind is not None
    known = emissions(run) or {"training_type": "fine-tuning" if tuned else "pre-training"}
    return known if known.get("hardware_used") or not (named := hardware(facts)) else {**known, "hardware_used": named}


def hardware(facts: Facts) -> str | None:
    """The machine's name, else the processor that the last attempt was on; null where neither is known."""
    run = facts.model
    if run.config.machine.name != "unstated":
        return str(run.config.machine.name)
    attempts = run.environment if isinstance(run.environment, list) else []
    cpu = attempts[-1].get("cpu") if attempts and isinstance(attempts[-1], dict) else None
    return str(cpu) if cpu else None
