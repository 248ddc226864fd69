"""The model card of an exported checkpoint: what it is, what it was trained on, what is not known."""

from __future__ import annotations

from pathlib import Path

from trainer import __version__
from trainer.books import parameters
from trainer.config import Config
from trainer.hub.family import Family
from trainer.training.checkpoint import Checkpoint

LOADER = {"decoder": "AutoModelForCausalLM", "encoder": "AutoModelForPreTraining"}
TASK = {"decoder": "text-generation", "encoder": "fill-mask", "encoder_decoder": "text2text-generation"}


def model_card(config: Config, family: Family, checkpoint: Checkpoint, with_tokenizer: bool) -> str:
    """README.md in the hub's form."""
    model, step, count = config.model, checkpoint.step, parameters(config).published
    best = checkpoint.manifest.get("best") or {}
    loss = f"{best['loss']:.4f} nats per target at step {best['step']}" if "loss" in best else "not measured"
    origin = checkpoint.manifest.get("imported")
    made = f"{'pre-trained' if config.task.kind is None else 'tuned'} with isoflop {__version__}"
    if origin is not None:
        made = f"as it was imported from `{Path(origin).name}`, not trained since"
    learned = [
        f"- objective: {config.objective.name if config.task.kind is None else f'task {config.task.name}'}",
        f"- data: {config.data.name}, {config.curriculum.tokens(step):,} tokens in {step:,} steps",
        f"- held-out loss: {loss}",
    ]
    if config.init.given:
        learned.insert(0, f"- began with the weights of `{Path(str(config.init.run)).name}` at step {config.init.step}")
    loader = LOADER.get(model.family, "AutoModelForSeq2SeqLM")
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {TASK[model.family]}",
        "tags: [isoflop]",
        "---",
        "",
        f"# {model.name}",
        "",
        f"A `{family.type}` model of {count:,} parameters, {made}.",
        "",
        f"- shape: {model.depth} layers of width {model.width}, {model.heads} heads, {config.vocabulary:,} tokens",
        *(learned if origin is None else []),
        f"- science hash: {checkpoint.manifest.get('science', 'not stated')}",
        "- licence, intended use and limitations: not stated; fill in before you publish",
        "",
        "```python",
        f"from transformers import {loader}{', AutoTokenizer' if with_tokenizer else ''}",
        "",
        f'model = {loader}.from_pretrained("this folder")',
        *(['tokenizer = AutoTokenizer.from_pretrained("this folder")'] if with_tokenizer else []),
        "```",
        "",
    ]
    if not with_tokenizer:
        lines += ["The tokenizer was not exported.", ""]
    return "\n".join(lines)
