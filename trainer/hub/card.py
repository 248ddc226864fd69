"""The model card of an exported checkpoint: what it is, what it was trained on, what that cost, what is not known."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer import __version__
from trainer.books import format_price_tag, parameters
from trainer.books.formatting import REPORT
from trainer.config import Config
from trainer.evaluate.results import read_results
from trainer.hub.stated import Stated, is_language, is_repository
from trainer.report.card import emissions
from trainer.report.policy import loss_unit
from trainer.report.run_data import RunData, read_run
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import Checkpoint, folder_of
from trainer.utils.which_weights import average_line

# End of a class's name -> the AutoModel that finds it, and the pipeline that it serves.
LOADERS = {
    "ElectraForPreTraining": ("AutoModelForPreTraining", None),
    "ForPreTraining": ("AutoModelForPreTraining", "fill-mask"),
    "ForNextSentencePrediction": ("AutoModelForNextSentencePrediction", None),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
    "LMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "ForConditionalGeneration": ("AutoModelForSeq2SeqLM", "text2text-generation"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "Model": ("AutoModel", "feature-extraction"),
}
FROM_HUB = re.compile(r"models--([^/]+)--([^/]+)/snapshots/")  # in the path of a folder of huggingface_hub's cache
MOST_PARENTS = 20
HELD_OUT = {"loss": "held-out loss, nats per target", "bits_per_byte": "held-out bits per byte"}


@dataclass(frozen=True)
class Exported:
    """What a card is about."""

    run: Path
    config: Config
    checkpoint: Checkpoint
    architecture: str  # the class of transformers that was written
    with_tokenizer: bool
    stated: Stated
    differences: tuple[str, ...] = ()  # of the exported tokenizer from the run's own
    average: str | None = None  # of the weights, which the exported ones are

    @property
    def untouched(self) -> str | None:
        """The folder that the model was imported from, where it was not trained since."""
        return self.checkpoint.manifest.get("imported")

    @property
    def loader(self) -> tuple[str, str | None]:
        """The AutoModel that finds the class, and the pipeline that it serves."""
        return next(names for end, names in LOADERS.items() if self.architecture.endswith(end))


def model_card(exported: Exported) -> str:
    """README.md in the hub's form."""
    run_data = read_run(exported.run)
    head = yaml.safe_dump(front_matter(exported, run_data), sort_keys=False, allow_unicode=True).strip()
    lines = ["---", head, "---", "", *_body(exported, run_data), *_usage(exported)]
    if exported.untouched is None and run_data.steps.kept:
        lines += ["## Price tag", "", "```", format_price_tag(run_data.tag, REPORT), "```", ""]
    return "\n".join([*lines, *_citation()])


# --- the hub's metadata ----------------------------------------------------------------------------------------------


def front_matter(exported: Exported, run_data: RunData) -> dict[str, Any]:
    """The hub's metadata; what is not stated is left out."""
    config, stated = exported.config, exported.stated
    trained = exported.untouched is None
    results = list(_results(exported, run_data))
    data = {
        "library_name": "transformers",
        "pipeline_tag": exported.loader[1],
        "license": stated.license,
        "language": list(stated.language or (_languages(config) if trained else ())),
        "base_model": list(stated.base_model or _base_model(exported)),
        "datasets": list(stated.datasets or (_datasets(config) if trained else ())),
        "tags": ["isoflop", config.model.name],
        "co2_eq_emissions": emissions(run_data) if trained else None,
        "model-index": [{"name": config.model.name, "results": results}] if results else None,
    }
    return {name: value for name, value in data.items() if value}


def _datasets(config: Config) -> list[str]:
    """Those of the hub that the run was trained on."""
    names = (
        re.split("[:@]", place.removeprefix("hf://"))[0] for place in config.data.places if place.startswith("hf://")
    )
    return list(dict.fromkeys(name for name in names if is_repository(name)))


def _languages(config: Config) -> list[str]:
    """Those that the sources state, and what the standard library is."""
    if config.task.kind is None and config.data.name == "stdlib":
        return ["code", "en"]
    stated = [*config.data.parallel, *(source.language or "" for source in config.data.sources.values())]
    return list(dict.fromkeys(one for one in stated if is_language(one)))


def _base_model(exported: Exported) -> list[str]:
    """The model of the hub that the weights began as, where its folder was of huggingface_hub's cache."""
    found = FROM_HUB.search(_imported_from(exported.run, exported.config))
    return [f"{found[1]}/{found[2]}"] if found else []


def _imported_from(run: Path, config: Config) -> str:
    """The folder that the run's weights, or those of the run that it was tuned from, were imported from; empty where
    they were not, or where nothing tells any more."""
    parents = 0
    while parents < MOST_PARENTS:
        first = folder_of(RunFolder(run).checkpoints, 0) / "manifest.json"
        if first.is_file() and (source := json.loads(first.read_text()).get("imported")):
            return str(source)
        if not config.task.begins_from_parent or not RunFolder(Path(str(config.task.parent))).config.is_file():
            break
        run, parents = Path(str(config.task.parent)), parents + 1
        config = RunFolder(run).load_config()
    return ""


def _results(exported: Exported, run_data: RunData) -> Iterator[dict[str, Any]]:
    """What was measured of this checkpoint, and of no other."""
    config, step = exported.config, exported.checkpoint.step
    kind = exported.loader[1] or "other"

    def result(data: Mapping[str, Any], scores: Mapping[str, Any], names: Mapping[str, str]) -> list[dict[str, Any]]:
        metrics = [{"type": name, "name": names.get(name, name), "value": scores[name]} for name in _known(scores)]
        return [{"task": {"type": kind}, "dataset": dict(data), "metrics": metrics}] if metrics else []

    of_step = _evaluated(exported)
    held_out = _held_out(exported, run_data)
    text = {"name": f"{config.data.name}, held out", "type": config.data.name, "split": "held_out"}
    if config.task.kind is None:
        yield from result(text, {name: held_out.get(name) for name in HELD_OUT}, HELD_OUT)
    else:
        name = config.task.name
        yield from result({"name": name, "type": name, "split": "held_out"}, _task_scores(exported.run, step), {})
    for one in of_step.get("tasks") or ():
        task = {"name": one["task"], "type": one["task"], "args": {"num_few_shot": one["shots"]}}
        yield from result(task, {name: value["value"] for name, value in one["values"].items()}, {})


def _evaluated(exported: Exported) -> dict[str, Any]:
    """What `isoflop eval` found of these very weights; nothing where it was not run on them."""
    measured = read_results(exported.run)
    of_step = measured if measured.get("step") == exported.checkpoint.step else {}
    return of_step if exported.average is None else (of_step.get("averages") or {}).get(exported.average, {})


def _held_out(exported: Exported, run_data: RunData) -> Mapping[str, Any]:
    """Losses of these very weights on held-out text: by `isoflop eval`, else during the run."""
    if held_out := _evaluated(exported).get("held_out"):
        return dict(held_out)
    evaluations = (one for one in run_data.steps.evaluations if one.get("step") == exported.checkpoint.step)
    during: Mapping[str, Any] = next(evaluations, {})
    if exported.average is None:
        return during
    return {"loss": (during.get("averages") or {}).get(exported.average)}


def _known(scores: Mapping[str, Any]) -> list[str]:
    return [name for name, value in scores.items() if isinstance(value, int | float) and math.isfinite(value)]


def _task_scores(run: Path, step: int) -> dict[str, Any]:
    """Metrics of a tuned run on its held-out records; none where those of the step are not there."""
    try:
        found = json.loads((run / "task.json").read_text())
        return dict(found["metrics"]) if found["step"] == step else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


# --- what a person reads ---------------------------------------------------------------------------------------------


def _body(exported: Exported, run_data: RunData) -> list[str]:
    config, checkpoint, step = exported.config, exported.checkpoint, exported.checkpoint.step
    model, count = config.model, parameters(config).published
    best = checkpoint.manifest.get("best") or {}
    if exported.average is not None:  # the run's best are other weights
        best = {name: value for name, value in _held_out(exported, run_data).items() if value is not None}
        best["step"] = step
    unit = loss_unit(config)
    loss = f"{best['loss']:.4f} {unit} at step {best['step']}" if "loss" in best else "not measured"
    made = f"{'pre-trained' if config.task.kind is None else 'tuned'} with isoflop {__version__}"
    if exported.untouched is not None:
        made = f"as it was imported from `{Path(exported.untouched).name}`, not trained since"
    learned = [
        f"- objective: {config.objective.name if config.task.kind is None else f'task {config.task.name}'}",
        f"- data: {config.data.name}, {config.curriculum.tokens(step):,} tokens in {step:,} steps",
        f"- held-out loss: {loss}",
    ]
    if config.init.given:
        which = "weights" if config.init.average is None else f"average `{config.init.average}`"
        learned.insert(0, f"- began with the {which} of `{Path(str(config.init.run)).name}` at step {config.init.step}")
    if exported.average is not None:
        line = average_line(exported.run, exported.average, checkpoint.manifest)
        learned.insert(0, f"- these are an average: `{exported.average}`, {line}")
    unsaid = [*(["licence"] if exported.stated.license is None else []), "intended use", "limitations"]
    layers = model.depth if model.decoder_depth is None else f"{model.depth} + {model.decoder_depth}"
    return [
        f"# {model.name}",
        "",
        f"A `{exported.architecture}` of {count:,} parameters, {made}.",
        "",
        f"- shape: {layers} layers of width {model.width}, {model.heads} heads, {config.vocabulary:,} tokens",
        *(learned if exported.untouched is None else []),
        f"- science hash: {checkpoint.manifest.get('science', 'not stated')}",
        *(f"- {line}" for line in exported.differences),
        f"- not stated: {', '.join(unsaid)}; fill in before you publish",
        "",
    ]


def _usage(exported: Exported) -> list[str]:
    loader, tokenizer = exported.loader[0], exported.with_tokenizer
    return [
        "```python",
        f"from transformers import {loader}{', AutoTokenizer' if tokenizer else ''}",
        "",
        f'model = {loader}.from_pretrained("this folder")',
        *(['tokenizer = AutoTokenizer.from_pretrained("this folder")'] if tokenizer else []),
        "```",
        "",
        *([] if tokenizer else ["The tokenizer was not exported.", ""]),
    ]


def _citation() -> list[str]:
    return [
        "## Citation",
        "",
        "```bibtex",
        "@software{isoflop,",
        "  author = {{The isoflop authors}},",
        "  title = {isoflop: pre-training of transformers at many sizes, with the price tag attached},",
        f"  version = {{{__version__}}},",
        "}",
        "```",
        "",
    ]
