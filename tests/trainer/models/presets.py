"""Every preset, and one tiny model of each family."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import yaml

import conf
from trainer.config import Config
from trainer.models import build, initialize

FOLDER = Path(conf.__file__).parent / "model"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
# One of each family, at a size for tests.
DECODERS = [
    "gpt",
    "gpt2-124m",
    "opt-125m",
    "opt-350m",
    "bloom-560m",
    "xglm-564m",
    "pythia-160m",
    "llama3.2-1b",
    "olmo2-1b",
    "mixtral-8x7b",
    "deepseek-moe-16b",
    "gpt-neo-125m",
    "gemma2-2b",
    "gemma3-1b",
    "olmo3-7b",
    "command-r-plus-104b",
    "lamda-2b",
]
ENCODERS = [
    "bert-base",
    "roberta-base",
    "xlmr-xl",
    "albert-base",
    "electra-small",
    "xlnet-base",
    "modernbert-base",
    "deberta-v3-small",
    "xlm-mlm-ende-1024",
]
DISCRIMINATORS = ["electra-small", "deberta-v3-small"]
ENCODER_DECODERS = [
    "bart-base",
    "mbart-large-cc25",
    "t5-small",
    "t5v1.1-small",
    "mt5-small",
    "mass-base",
    "byt5-small",
    "pegasus-large",
    "switch-base-8",
]
FAMILIES = [*DECODERS, *ENCODERS, *ENCODER_DECODERS]


def preset(name, **changes):
    fields = yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) | changes
    return Config.model_validate({"model": fields, "tokenizer": {"vocabulary": 300}, "data": {"sequence_length": 32}})


def tiny(name):
    """The family of this preset with two or four narrow layers, float64 weights larger than initial ones."""
    fields = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    changes = {"vocabulary": 320, "depth": 4 if fields.get("window") else 2, "width": 32, "heads": 4, "max_length": 64}
    changes |= {
        key: value
        for key, value in (("ffn_width", 48), ("kv_heads", 2), ("head_size", 8), ("decoder_depth", 1))
        if key in fields
    }
    changes |= {"embedding_width": 16} if "embedding_width" in fields else {}
    changes |= {"generator_width": 16, "generator_heads": 2} if "generator_width" in fields else {}
    changes |= {"generator_depth": 1} if "generator_depth" in fields else {}
    changes |= {"relative_buckets": 6, "relative_distance": 16} if fields.get("position") == "disentangled" else {}
    changes |= {"window": 3} if "window" in fields else {}
    if "experts" in fields:
        few = {"count": 4, "per_token": min(2, fields["experts"]["per_token"])}
        changes["experts"] = fields["experts"] | few | ({"width": 20} if "width" in fields["experts"] else {})
    changes |= {"global_every": 3} if fields.get("global_every", 1) > 4 else {}
    config = preset(name, **changes)
    model = build(config).double()
    initialize(model, 0)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2)
    return config, model


@cache
def account(name):
    from trainer.books.parameters import parameters

    return parameters(preset(name))


def side(length, prefix="", rows=2, seed=0):
    tokens = torch.randint(5, 300, (rows, length), generator=torch.Generator().manual_seed(seed))
    return {
        f"{prefix}tokens": tokens,
        f"{prefix}segments": torch.zeros_like(tokens, dtype=torch.int32),
        f"{prefix}positions": torch.arange(length).expand(rows, length),
    }


def batch(config, length=24):
    """A batch as the family's own objective makes it."""
    inputs = side(length)
    targets = torch.where(torch.arange(length) % 3 == 1, inputs["tokens"], -100)
    inputs["targets"] = targets
    if config.model.family == "encoder_decoder":
        inputs |= side(length + 5, "source_", seed=1)
    if config.model.two_stream:
        order = torch.zeros_like(targets, dtype=torch.int32)
        order[targets >= 0] = torch.arange(int((targets >= 0).sum()), dtype=torch.int32) % 8 + 1
        inputs["order"] = order
    if config.model.sentence_head:
        inputs["sentence_label"] = torch.tensor([0, 1])
        inputs["token_types"] = (torch.arange(length) > length // 2).long().expand(2, length)
    if config.model.languages:
        inputs["languages"] = (torch.arange(length) > length // 2).long().expand(2, length)
    return inputs
