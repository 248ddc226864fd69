"""`Config.science_hash()`, the identity of an experiment, of every preset and of every run of a ladder or a grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tests.golden.files import HERE, read_json, write_json
from tests.golden.product import CONF, SCIENCE, Config, compose, planned_grid, planned_runs

FILE = HERE / "science.json"

# Every option of a group is composed over the defaults with what else it needs to be a valid experiment.
PARTNERS = {
    "masked_lm": "bert-base",
    "whole_word": "bert-base",
    "tlm": "xlm-mlm-ende-1024",
    "bert": "bert-base",
    "albert": "albert-base",
    "unilm": "bert-base",
    "replaced_token": "electra-small",
    "permuted_lm": "xlnet-base",
    "mass": "mass-base",
    "bart": "bart-base",
    "mbart": "mbart-large-cc25",
    "span_corruption": "t5-small",
    "byt5": "t5-small",
    "gap_sentences": "pegasus-large",
    "ul2": "t5-small",
}
NEEDS = {
    "data=text": ["data.path=[notes]"],
    "data=mixture": ["data.sources={news:{path:[news]},books:{path:[books]}}"],
    "data=parallel": ["data.parallel={en:[en],de:[de]}"],
    "objective=tlm": ["data=parallel", "data.parallel={en:[en],de:[de]}"],
}
GROUPS = tuple(group for group in SCIENCE if (CONF / group).is_dir())
SMALL = ("ladder=llama", "grid=families")  # those that compose in a second or so


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def plain(group: str, option: str) -> dict[str, Any]:
    """A preset's file as plain data."""
    return dict(OmegaConf.to_container(OmegaConf.load(CONF / group / f"{option}.yaml")))  # type: ignore[arg-type]


def objective_of(model: dict[str, Any]) -> str:
    """The objective with which a model preset is composed."""
    if model["family"] == "encoder":
        special = [("two_stream", "permuted_lm"), ("generator_width", "replaced_token")]
        return next((objective for key, objective in special if model.get(key)), "masked_lm")
    return {"decoder": "causal", "encoder_decoder": "span_corruption"}[model["family"]]


def words(group: str, option: str) -> list[str]:
    """The overrides of an option's experiment."""
    if group == "model":
        model = plain("model", option)
        few = ["tokenizer=bytes"] if model.get("vocabulary") == 384 else []
        return [f"model={option}", f"objective={objective_of(model)}", *few]
    if group == "objective" and option in PARTNERS:
        return [f"objective={option}", f"model={PARTNERS[option]}", *NEEDS.get(f"objective={option}", [])]
    if group == "task":
        own = plain("task", option)
        model = dict.fromkeys(("preference", "text", "policy"), "llama-mini").get(own["kind"], "bert-base")
        objective = objective_of(plain("model", model))
        has_records = own.get("source", "files") != "files" or own.get("templates") or own.get("train")
        files = [] if has_records else ["task.train=[train.jsonl]"]
        judged = ["task.reward_function=length"] if own["kind"] == "policy" else []
        return [f"task={option}", f"model={model}", f"objective={objective}", *files, *judged]
    return [f"{group}={option}", *NEEDS.get(f"{group}={option}", [])]


def presets() -> Iterator[tuple[str, list[str]]]:
    """(name, overrides) of every option of every group of the science."""
    for group in GROUPS:
        for option in options(group):
            yield f"{group}={option}", words(group, option)


@cache
def defaults() -> Config:
    return compose([])


def assembled(overrides: list[str]) -> Config:
    """What `compose` makes of these overrides, a hundred times faster: presets' files in place of the defaults'."""
    data = defaults().model_dump(mode="json")
    for word in overrides:
        key, _, value = word.partition("=")
        if (CONF / key / f"{value}.yaml").is_file():
            data[key] = plain(key, value)
        else:
            group, _, name = key.partition(".")
            data[group][name] = OmegaConf.to_container(OmegaConf.from_dotlist([f"x={value}"]))["x"]  # type: ignore[index,call-overload]
    return type(defaults()).model_validate(data)


def preset_hashes(made: Callable[[list[str]], Config]) -> dict[str, str]:
    return {name: made(overrides).science_hash() for name, overrides in presets()}


def many() -> list[str]:
    return [f"{group}={option}" for group in ("ladder", "grid") for option in options(group)]


def run_hashes(word: str) -> dict[str, str]:
    """Of every run that `ladder=...` or `grid=...` stands for."""
    runs = planned_runs([word]) if word.startswith("ladder=") else [cell.run for cell in planned_grid([word])[1]]
    return {f"{word} {run.name}": run.config.science_hash() for run in runs}


def make(folder: Path) -> None:
    found = preset_hashes(compose)
    for word in many():
        found |= run_hashes(word)
    write_json(FILE, found)


def golden() -> dict[str, str]:
    """The fixture. The test fails where it is missing."""
    return read_json(FILE, "science")
