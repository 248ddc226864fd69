"""What the presets of models and objectives ask of attention's kernels: found by running small models of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 16
PARALLEL = {"name": "parallel", "parallel": {"de": ["de"], "en": ["en"]}}


class Asked(NamedTuple):
    """A head size and the switches that are on, as `kernels.offline.compiled_attention` has them, and groups."""

    head: int
    features: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        return " ".join(switch if on is True else f"{switch}={on}" for switch, on in self.features) or "plain"


def asked_by_presets() -> dict[Asked, str]:
    """Every set in use in pre-training, with and without the paper's dropout, and the first preset that uses it."""
    with_order = {True: set(), False: set()}
    for settings in presets("objective").values():
        families = description(settings).families
        with_order[orders(settings)].update((family, description(settings).two_stream) for family in families)
    found: dict[Asked, str] = {}
    for name, settings in presets("model").items():
        for order, trained in with_order.items():
            for asked in asked_by(settings, order, trained):
                found.setdefault(asked, name)
                plain = tuple(pair for pair in asked.features if pair[0] != "dropout")
                found.setdefault(asked._replace(features=plain), name)
    return found


def presets(group: str) -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf" / group).glob("*.yaml"))}


def description(settings: dict[str, Any]) -> Any:
    from trainer.descriptions.objectives import OBJECTIVES

    return OBJECTIVES[settings["name"]]


def orders(settings: dict[str, Any]) -> bool:
    """Whether the objective's batches say in which order tokens see each other."""
    from trainer.config import Config
    from trainer.objectives import Vocabulary, Window, objective

    names = [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        "<mask>",
        "<sep>",
        "<cls>",
        "<fim_prefix>",
        "<fim_middle>",
        "<fim_suffix>",
    ]
    names += ["<NLU>", "<NLG>", "<S2S>", *(f"<extra_id_{number}>" for number in range(150))]
    about = description(settings)
    model: dict[str, Any] = {"family": about.families[0], "sentence_head": bool(settings.get("question"))}
    if model["sentence_head"]:
        model |= {"pooler": "pretraining"}
    if about.two_stream:
        model |= {"two_stream": True, "position": "relative"}
    if about.generator:
        model |= {"generator_width": 64}
    data = {"sequence_length": 96, **(PARALLEL if about.reads_pairs_of_languages else {})}
    config = Config.model_validate({"model": model, "objective": settings, "data": data, "budget": {"steps": 100}})
    vocabulary = Vocabulary(600, {name: number for number, name in enumerate(names)}, lambda token: f" w{token}.")
    made = objective(config, vocabulary)
    tokens = np.random.default_rng(0).integers(len(names), 600, (2, made.length))
    places, index = np.broadcast_to(np.arange(made.length), tokens.shape), np.arange(2)
    window = Window(tokens, np.zeros(tokens.shape, np.int32), places, index, index, index * 0, 0, owner=index)
    window = replace(window, partner=window, other_document=np.ones(2, bool), language=index + 200)
    if about.reads_pairs_of_languages:
        window = replace(window, language=np.tile([0, 1], (2, 1)))
    return "order" in made.apply(window)


def asked_by(settings: dict[str, Any], order: bool, trained: set[tuple[str, bool | None]]) -> set[Asked]:
    """Of one preset, as a small model. trained: (family, two_stream) of the objectives that are at hand."""
    from trainer.config.model import ModelConfig
    from trainer.models import Backbone, pretraining_model

    full = ModelConfig.model_validate(settings)
    if not {(full.family, full.two_stream), (full.family, None)} & trained:
        return set()
    net = pretraining_model(ModelConfig.model_validate(settings | small(full)), 64, LENGTH, backend="reference")
    ids = torch.zeros((2, LENGTH), dtype=torch.int64)
    batch = {name: ids for name in ("tokens", "positions", "source_tokens", "source_positions")}
    batch |= {"segments": ids.int(), "source_segments": ids.int(), "samples": torch.arange(2)}
    if order:
        batch["order"] = ids.int()
    with recorded() as found, torch.no_grad():
        for backbone in (module for module in net.modules() if isinstance(module, Backbone)):
            backbone(**{name: batch[name] for name in backbone.inputs if name in batch})
    return found


def small(model: Any) -> dict[str, Any]:
    """Keys by which a model asks its kernels for the same, but for the number of heads, with less work. All groups of
    heads are of two, which is enough to make dK and dV sums over a group."""
    keys = {"vocabulary": 64, "attention_dropout": "paper", "dropout": 0.0, "experts": {}, "max_length": LENGTH}
    keys |= {"depth": max(2, model.global_every, model.nope_every or 1), "decoder_depth": None, "ffn_width": 64}
    if model.generator_width is not None:  # its heads are in proportion to the model's
        return keys | {"generator_depth": None}
    groups = min(2, model.heads // model.key_heads)
    return keys | {"width": 64, "heads": groups, "kv_heads": 1, "head_size": model.head_channels}


class recorded:
    """The sets that models ask for inside of the block, which compute nothing."""

    def __enter__(self) -> set[Asked]:
        self.found: set[Asked] = set()
        self.patch = mock.patch("trainer.models.sequence.whole.attention", self.attention)
        self.patch.start()
        return self.found

    def __exit__(self, *_: object) -> None:
        self.patch.stop()

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: Any, **more: Any) -> torch.Tensor:
        self.found.add(Asked(q.shape[-1], tuple(switches(q, k, mask.spec, **more))))
        return torch.empty_like(q)


def switches(q: torch.Tensor, k: torch.Tensor, spec: Any, bias: Any = None, **more: Any) -> Iterator[tuple[str, Any]]:
    """Those of a call that are on, in the order of their names."""
    from kernels import Alibi, Dense, T5Bias

    numbers = {type(None): 0, Alibi: 1, T5Bias: 2, Dense: 3}
    on = {
        "bias": numbers[type(bias if bias is not None else spec.bias)],
        "dropout": more.get("dropout_p", 0.0) > 0,
        "groups": q.shape[2] // k.shape[2],
        "has_left": spec.left is not None,
        "has_right": spec.right is not None,
        "k_lens": spec.kv_lens is not None,
        "order": 0 if spec.q_order is None else 1 + spec.strict,
        "segments": spec.q_segments is not None,
        "sink": more.get("sink") is not None,
        "softcap": more.get("softcap", 0.0) > 0,
    }
    return ((name, value) for name, value in on.items() if value and (name, value) != ("groups", 1))
