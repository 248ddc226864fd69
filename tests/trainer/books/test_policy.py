"""What a policy's step costs: writing, rewarding, the reference and learning, against PyTorch's counter."""

from __future__ import annotations

import json

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from trainer.books import flops, memory, plan
from trainer.books.layout import micro_batch
from trainer.books.policy_rows import step_parts
from trainer.books.rollouts import cache_bytes, prompt_length
from trainer.config import Config
from trainer.generation.reader import Reader
from trainer.generation.rollouts import Rollouts
from trainer.models import NOT_A_TARGET, build, initialize
from trainer.run_folder import RunFolder
from trainer.tasks import open_task
from trainer.tasks.prompts import Prompt
from trainer.tasks.records import Record

PROMPTS, K, TOKENS, LENGTH = 3, 2, 5, 24
SHAPES = {
    "causal": {},
    "windowed": {"window": 8, "global_every": 2, "kv_heads": 2},
    "span_corruption": {"position": "buckets", "norm": "rmsnorm"},
}


@pytest.fixture(params=SHAPES)
def rollouts(request, untrained, tmp_path):
    """A policy whose answers never end by themselves, to prompts that fill their room."""
    objective = "causal" if request.param == "windowed" else request.param
    parent = RunFolder(untrained(objective, **SHAPES[request.param]))
    before = parent.load_config()
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"text": "a"}) + "\n" + json.dumps({"text": "b"}))
    config = Config.model_validate(
        before.model_dump()
        | {
            "task": {
                **{"kind": "policy", "train": (str(tmp_path / "prompts.jsonl"),), "parent": str(parent.path)},
                **{"reward_function": "length", "samples": K, "max_new_tokens": TOKENS},
            },
            "tokenizer": {"path": str(parent.tokenizer)},
            "data": {"sequence_length": LENGTH, "held_out": 0.4},
            "optim": {"batch_size": PROMPTS},
            "kernels": {"attention": "reference"},
        }
    )
    model = build(config)
    initialize(model, 0)
    made = Rollouts(config, model, open_task(config))
    made.tokenizer.ends = frozenset()
    return made


def test_equal_to_the_counter(rollouts):
    config, form = rollouts.config, rollouts.train
    prompts = [Prompt([5] * prompt_length(config), "", None, Record({}, "here"))] * PROMPTS
    parts, account = step_parts(config), flops(config)
    assert sum(parts.values()) == account.per_step
    with FlopCounterMode(display=False) as counter:
        answers = rollouts.write(prompts, np.full((PROMPTS * K, TOKENS), 0.5))
    assert [len(answer) for answer in answers] == [TOKENS] * PROMPTS * K
    assert counter.get_total_flops() == parts["generation"]

    row = form.row(0, 0)
    batch = {name: np.stack([array] * PROMPTS) for name, array in row.items()}
    done = {name: array for name, array in batch.items() if name not in ("place", "turn")}
    done["answers"] = np.full(done["tokens"].shape, NOT_A_TARGET)
    with FlopCounterMode(display=False) as counter:
        rollouts._likelihood(rollouts.model.reference, done)
    assert counter.get_total_flops() == parts["reference"]
    assert parts["forward_backward"] == 3 * parts["reference"]


def test_the_plan_tells_the_parts(rollouts):
    config = rollouts.config
    tag = plan(config)
    steps = tag["data.steps"].planned.value
    names = {"generation": "generation", "reward": "reward", "reference": "reference", "forward_backward": "learning"}
    for phase, part in step_parts(config).items():
        assert tag[f"flop.{names[phase]}"].planned.value == steps * part
    assert tag["time.generation"].planned is not None


def test_the_cache_holds_what_was_planned(rollouts, monkeypatch):
    """All of it, and at most half of it is room that is not used yet."""
    readers = []

    class Kept(Reader):
        def __init__(self, *words, **keys):
            super().__init__(*words, **keys)
            readers.append(self)

    monkeypatch.setattr("trainer.generation.rollouts.Reader", Kept)
    config = rollouts.config
    prompts = [Prompt([5] * prompt_length(config), "", None, Record({}, "here"))] * micro_batch(config)
    rollouts.write(prompts, np.full((len(prompts) * K, TOKENS), 0.5))
    layers = readers[0].cache.layers
    used = sum(layer.stored.nbytes + sum(one.nbytes for one in layer.source or ()) for layer in layers)
    assert used <= cache_bytes(config) <= 2 * used or config.model.window
    assert memory(config).total >= cache_bytes(config)


def test_a_reward_model_is_counted(rollouts, untrained, tmp_path):
    config = rollouts.config
    before = RunFolder(untrained("masked_lm"))
    task = {"kind": "reward", "answer": ("good", "bad"), "train": ("x.jsonl",)}
    reader = Config.model_validate(before.load_config().model_dump() | {"task": task})
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "config.yaml").write_text(reader.to_yaml())
    keys = {"reward": str(tmp_path / "judge"), "reward_function": None}
    judged = config.model_copy(update={"task": config.task.model_copy(update=keys)})
    length = LENGTH + 4 + (TOKENS if config.model.family == "encoder_decoder" else 0)
    one = flops(reader.at_length(-(-length // 8) * 8)).forward_sample
    assert step_parts(judged)["reward"] == PROMPTS * K * one
    assert memory(judged).weights > memory(config).weights
    gone = judged.model_copy(update={"task": judged.task.model_copy(update={"reward": str(tmp_path / "gone")})})
    assert step_parts(gone)["reward"] == 0
    assert any("gone is not there: what it costs" in note for note in plan(gone).notes)
