"""FLOPs of every preset in conf/objective, on a batch that the objective itself made, by PyTorch's own counter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from parameter_cases import MODELS, config
from torch.utils.flop_counter import FlopCounterMode

from trainer.books import flops
from trainer.models import build, initialize
from trainer.objectives import Vocabulary, Window, objective

PRESETS = sorted(Path(__file__).parents[3].joinpath("conf", "objective").glob("*.yaml"))
DECODERS, PAIRS = ("causal", "prefix_lm", "fim"), ("nsp", "sop")
ROWS, SIZE = 4, 600
PARALLEL = {"name": "parallel", "parallel": {"de": ["de"], "en": ["en"]}}
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "<sep>", "<cls>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"]
SPECIALS += ["<NLU>", "<NLG>", "<S2S>", *(f"<extra_id_{k}>" for k in range(150))]


def spelling(token: int) -> str:
    """Words of two tokens, sentences of twenty."""
    return "." if token % 20 == 19 else f" w{token}" if token % 2 else f"c{token}"


def model_for(settings: dict) -> str:
    """A small model that the objective can train."""
    name = settings["name"]
    if name in DECODERS:
        return "llama"
    if name in ("mass", "bart", "mbart", "gap_sentences"):
        return "bart"
    special = {"replaced_token": "electra", "permuted_lm": "xlnet", "span_corruption": "t5", "ul2": "t5"}
    special["tlm"] = "xlm"
    return special.get(name, "bert" if settings.get("question") else "roberta")


def window(length: int, seed: int) -> Window:
    """Rows of text in two documents each."""
    tokens = np.random.default_rng(seed).integers(len(SPECIALS), SIZE, (ROWS, length))
    segments = np.broadcast_to((np.arange(length) >= length // 3).astype(np.int32), tokens.shape)
    positions = np.broadcast_to(
        np.where(segments[0] == 1, np.arange(length) - length // 3, np.arange(length)), tokens.shape
    )
    index = np.arange(ROWS)
    return Window(tokens, segments, positions, index, index, index * 0, 0)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
def test_equal_to_the_counter(preset: Path, recomputed: bool) -> None:
    settings = yaml.safe_load(preset.read_text())
    made = config(
        MODELS[model_for(settings)]
        | {"vocabulary": SIZE, "token_types": 2 * (model_for(settings) in ("bert", "roberta"))},
        objective=settings,
        tokenizer={"vocabulary": SIZE},
        optim={"batch_size": ROWS},
        data={"sequence_length": 96, **(PARALLEL if settings["name"] == "tlm" else {})},
        kernels={"attention": "reference"},
        engine={"activation_checkpointing": recomputed},
    )
    how = objective(made, Vocabulary(SIZE, {name: k for k, name in enumerate(SPECIALS)}, spelling))
    given = window(how.length, seed=0)
    if how.partner:
        given = replace(given, partner=window(how.length, seed=1), other_document=np.ones(ROWS, bool))
    if made.objective.description.reads_languages:
        given = replace(given, language=np.arange(ROWS) + 200)
    if made.objective.description.reads_pairs_of_languages:
        given = replace(given, language=np.tile([0, 1], (ROWS, 1)))
    if how.layout in ("next_fit", "best_fit"):
        given = replace(given, owner=np.arange(ROWS))  # one stretch a sample
    batch = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in how.apply(given).items()}
    torch.manual_seed(0)
    net = build(made)
    initialize(net, 0)
    net.recompute = recomputed
    with FlopCounterMode(display=False) as forward:
        loss, _, _ = net(**batch)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    account = flops(made)
    if recomputed:
        assert forward.get_total_flops() + backward.get_total_flops() == account.hardware_per_step
    else:
        assert forward.get_total_flops() == account.forward_per_step
        assert backward.get_total_flops() == account.backward_per_step


def test_all_eighteen_are_here() -> None:
    assert len(PRESETS) == 18
