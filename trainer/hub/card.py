"""The model card of an exported checkpoint: what it is, what it was trained on, what is not known."""

from __future__ import annotations

from pathlib import Path

from trainer import __version__
from trainer.books import parameters
from trainer.config import Config
from trainer.training.checkpoint import Checkpoint

# End of a class's name -> the AutoModel that finds it, and the pipeline that it serves.
LOADERS = {
    "ForPreTraining": ("AutoModelForPreTraining", None),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
    "LMHeadModel": ("AutoModelForCausalLM", "text-generation"),
    "ForConditionalGeneration": ("AutoModelForSeq2SeqLM", "text2text-generation"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
    "Model": ("AutoModel", "feature-extraction"),
}


def model_card(config: Config, architecture: str, checkpoint: Checkpoint, with_tokenizer: bool) -> str:
    """README.md in the hub's form. architecture: the class of transformers that was written."""
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
    loader, pipeline = next(names for end, names in LOADERS.items() if architecture.endswith(end))
    lines = [
        "---",
        "library_name: transformers",
        *([f"pipeline_tag: {pipeline}"] if pipeline else []),
        "tags: [isoflop]",
        "---",
        "",
        f"# {model.name}",
        "",
        f"A `{architecture}` of {count:,} parameters, {made}.",
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
