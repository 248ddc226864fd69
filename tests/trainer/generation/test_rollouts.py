"""Answers that a policy writes: their distribution, what they depend on, and the texts that are rewarded."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from trainer.config import Config
from trainer.generation.rollouts import Rollouts
from trainer.generation.sampling import by_inversion
from trainer.models import NOT_A_TARGET, build, initialize
from trainer.run_folder import RunFolder
from trainer.tasks import Examples, open_task
from trainer.tasks.formats import Scored
from trainer.tasks.prompts import Prompts
from trainer.tasks.records import Record
from trainer.training.checkpoint import save_weights
from trainer.training.completion import silent
from trainer.training.initial_weights import parent_weights
from trainer.utils.errors import UserError

PROMPTS = ["def", "import os, sys", "for number in range(10):", "x", "class Reader(Rows):", "return"]


def test_a_token_is_drawn_by_its_probability():
    chances = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    logits = torch.tensor([0.125, 0.0, 0.5, 0.375]).log().expand(1000, 4)
    assert by_inversion(logits, chances).bincount(minlength=4).tolist() == [125, 0, 500, 375]
    last = torch.tensor([np.nextafter(1, 0)], dtype=torch.float64)
    assert int(by_inversion(torch.zeros(1, 7), last)) == 6


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"text": text, "label": "e"}) for text in PROMPTS))
    return file


def rollouts_of(parent, records, **keys):
    """The rollouts of a policy that is its parent, and its training examples."""
    before = RunFolder(parent).load_config()
    task = {
        **{"kind": "policy", "train": (str(records),), "held_out": (str(records),), "parent": str(parent)},
        **{"chat": False, "reward_function": "contains", "reward_pattern": "e", "max_new_tokens": 7},
    }
    tokenizer = {"path": str(RunFolder(parent).tokenizer), "special_ids": before.tokenizer.special_ids}
    config = Config.model_validate(
        before.model_dump() | {"task": task | keys, "tokenizer": tokenizer, "seed": 5},
    )
    model = build(config)
    initialize(model, 0, known=parent_weights(config, beginning=True))
    task = open_task(config)
    return Rollouts(config, model, task), Examples(task, config, "train")


@pytest.mark.parametrize("objective", ["causal", "bart"])
def test_an_answer_does_not_depend_on_its_neighbours(objective, untrained, records):
    rollouts, examples = rollouts_of(untrained(objective), records)
    together = rollouts.complete(examples.batch(0, 6))
    for sample in range(6):
        alone = rollouts.complete(examples.batch(sample, sample + 1))
        for name in ("answers", "tokens", "rewards", "ended"):
            assert np.array_equal(alone[name][0], together[name][sample]), name
        np.testing.assert_allclose(alone["reference"][0], together["reference"][sample], rtol=1e-4)
    assert len({row.tobytes() for row in together["answers"].reshape(24, -1)}) > 20  # each by numbers of its own
    later = rollouts.complete(examples.batch(6, 12))
    assert not np.array_equal(np.sort(later["answers"], axis=0), np.sort(together["answers"], axis=0))


@pytest.mark.parametrize("objective", ["causal", "bart"])
def test_what_is_learned_from_is_what_was_written(objective, untrained, records):
    """The rows hold the prompt with the answer, its likelihood is that of its tokens one by one, and is not that of
    the start of padding."""
    rollouts, examples = rollouts_of(untrained(objective), records)
    batch = examples.batch(2, 4)
    phases = []
    done = rollouts.complete(batch, phases.append)
    assert phases == ["generation", "reward", "reference"]
    model, vocabulary = rollouts.model.policy, rollouts.tokenizer.vocabulary
    assert np.all(rollouts.divergence(done) == 0)
    for row, (place, turn) in enumerate(zip(batch["place"].tolist(), batch["turn"].tolist(), strict=True)):
        prompt = rollouts.train.asked_as(place, turn)
        for k in range(4):
            answer = [int(token) for token in done["answers"][row, k] if token != NOT_A_TARGET]
            assert 1 <= len(answer) <= 7 and all(token < vocabulary for token in answer)
            assert not any(token in rollouts.tokenizer.ends for token in answer[:-1])
            assert bool(done["ended"][row, k]) == (answer[-1] in rollouts.tokenizer.ends)
            text = rollouts.tokenizer.decode([token for token in answer if token not in rollouts.tokenizer.ends])
            assert done["rewards"][row, k] == float("e" in text)
            wanted = 0.0
            for count, token in enumerate(answer):
                if objective == "bart":
                    read = torch.tensor([[rollouts.tokenizer.start, *answer[:count]]])
                    logits = model.logits(read, source_tokens=torch.tensor([prompt.ids]))
                else:
                    logits = model.logits(torch.tensor([[*prompt.ids, *answer[:count]]]))
                wanted += float(logits[0, -1, :vocabulary].log_softmax(dim=-1)[token].detach())
            assert float(done["reference"][row, k]) == pytest.approx(wanted, rel=1e-4)


def test_blank_rows_have_no_answers(untrained, records):
    rollouts, examples = rollouts_of(untrained(), records)
    batch = examples.batch(0, 2)
    batch["targets"][1] = NOT_A_TARGET
    done = rollouts.complete(batch, silent)
    assert (done["answers"][1] == NOT_A_TARGET).all() and not done["rewards"][1].any()
    assert (done["answers"][0] != NOT_A_TARGET).any()
    with torch.no_grad():
        loss, count, _ = rollouts.model(**{name: torch.from_numpy(array) for name, array in done.items()})
    assert int(count) == 4 and math.isfinite(float(loss))


def test_the_rewards_of_texts(untrained, records):
    rollouts, examples = rollouts_of(untrained(), records, reward_function="length", reward_length=4, reward_pattern="")
    done = rollouts.complete(examples.batch(0, 6))
    written = (done["answers"] != NOT_A_TARGET).sum(axis=2)
    np.testing.assert_allclose(done["rewards"], -np.abs(written - 4) / 4)

    exact, examples = rollouts_of(untrained(), records, reward_function="exact_match", reward_pattern="")
    prompts = [exact.train.asked_as(place, -1) for place in range(2)]
    assert [one.answer for one in prompts] == ["e", "e"]
    answers = [exact.tokenizer.encode(text) for text in ("e", "x", " e ", "ee")]
    assert exact.judge(prompts, answers).tolist() == [1, 0, 1, 0]


def test_a_reward_that_is_no_number_is_named(untrained, records, monkeypatch):
    rollouts, examples = rollouts_of(untrained(), records)
    monkeypatch.setattr(rollouts.reward, "function", lambda completion, task: math.nan)
    with pytest.raises(
        UserError, match=r"^task\.reward_function: contains returns nan for an answer to .*:\d; a finite"
    ):
        rollouts.complete(examples.batch(0, 1))


@pytest.mark.parametrize("objective", ["causal", "bart"])
def test_a_reward_model_reads_as_it_was_trained_to(objective, untrained, records, tmp_path):
    """Its scores are those of `<s> prompt </s> answer </s>`, as the rows of task=reward are."""
    before = RunFolder(untrained("masked_lm"))
    task = {"kind": "reward", "text": ["text"], "answer": ["good", "bad"], "train": ["x.jsonl"]}
    config = Config.model_validate(before.load_config().model_dump() | {"task": task})
    judge, run = build(config), RunFolder(tmp_path / "judge")
    initialize(judge, 3)
    run.path.mkdir()
    run.config.write_text(config.to_yaml())
    run.tokenizer.write_bytes(before.tokenizer.read_bytes())
    save_weights(run.checkpoints, {name: one.detach() for name, one in judge.named_parameters()}, {"best": {}})
    keys = {"reward": str(run.path), "reward_function": None, "reward_pattern": ""}
    rollouts, _ = rollouts_of(untrained(objective), records, **keys)
    prompts = [rollouts.train.asked_as(place, -1) for place in range(2)]
    texts = ["a = b", "import", "self", "x"]
    found = rollouts.judge(prompts, [rollouts.tokenizer.encode(text) for text in texts])
    for number, text in enumerate(texts):
        pair = {"text": prompts[number // 2].text, "good": text, "bad": "other"}
        row = Scored(config, rollouts.tokenizer)(Record(pair, "here")).arrays
        batch = {name: torch.from_numpy(array)[None] for name, array in row.items() if name != "targets"}
        assert found[number] == pytest.approx(float(judge.eval().logits(**batch)[0, 0].detach()), rel=1e-4)


@pytest.mark.parametrize("objective", ["causal", "bart"])
def test_a_prompt_that_is_too_long(objective, untrained, records, tmp_path):
    """One's own is named; of a shipped task the end that an answer follows is kept, or the start for an encoder."""
    rollouts, _ = rollouts_of(untrained(objective), records)
    long, texts = Record({"text": "import os, sys " * 40, "label": "e"}, "here:1"), rollouts.task.train[0].templates
    with pytest.raises(UserError, match=r"^here:1: a prompt of \d+ tokens; \d+ fit .*into data\.sequence_length=64$"):
        Prompts([(long, texts)], rollouts.config, rollouts.tokenizer)
    shipped = rollouts.config.task.model_copy(update={"source": "continuations"})
    config = rollouts.config.model_copy(update={"task": shipped})
    made = Prompts([(long, texts)], config, rollouts.tokenizer)
    [[prompt]], words = made.ways, rollouts.tokenizer.encode(long.fields["text"])
    kept = words[: len(prompt.words)] if objective == "bart" else words[-len(prompt.words) :]
    assert made.cut == 1 and len(prompt.ids) == made.most and made.longest == 64 and prompt.words == kept
    assert rollouts.tokenizer.decode(prompt.words) == prompt.text
