"""What a policy has learned: the rewards of what it writes to held-out prompts, beside those of its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from trainer.evaluate.task_scores import Tuned
from trainer.generation.rollouts import Rollouts
from trainer.models import NOT_A_TARGET
from trainer.tasks import metrics
from trainer.tasks.prompts import HELD_OUT

PROMPTS = 256  # that are answered at most
BATCH = 16  # prompts at once
SHOWN = 4  # answers that are kept to be read


@torch.no_grad()
def score_policy(tuned: Tuned) -> dict[str, Any]:
    """Mean reward, KL divergence from the reference in nats an answer, tokens of an answer and share that came to an
    end, of as many answers to every held-out prompt as in training; and what the reference's own answers earn, drawn by
    the same chances."""
    rollouts = Rollouts(tuned.config, tuned.model, tuned.task)
    count = min(len(tuned.examples), PROMPTS)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("reward", "kl", "length", "ended", "before")}
    shown: list[dict[str, Any]] = []
    for first in range(0, count, BATCH):
        batch = tuned.examples.batch(first, min(first + BATCH, count))
        done = rollouts.complete(batch)
        written = (done["answers"] != NOT_A_TARGET).sum(axis=2)
        columns["reward"].append(done["rewards"])
        columns["kl"].append(rollouts.divergence(done))
        columns["length"].append(written)
        columns["ended"].append(done["ended"])
        prompts, answers = rollouts.of_reference(batch)
        columns["before"].append(rollouts.judge(prompts, answers).reshape(done["rewards"].shape))
        if len(shown) < SHOWN:
            shown += _first_answers(rollouts, batch, done)
    mean = {name: np.concatenate(values).astype(float).mean(axis=1) for name, values in columns.items()}  # by prompt
    return {
        "metrics": {name: float(mean[name].mean()) for name in ("reward", "kl", "length", "ended")},
        "intervals": {"reward": metrics.mean_interval(mean["reward"])} if count > 1 else {},
        "baselines": {"reference": {"reward": float(mean["before"].mean()), "kl": 0.0}},
        "notes": [f"of {count:,} prompt{'s' * (count > 1)}, {tuned.config.task.samples} answers each"],
        "answers": shown[:SHOWN],
    }


def _first_answers(
    rollouts: Rollouts, batch: dict[str, np.ndarray], done: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """The first answer to each prompt, as text."""
    found = []
    for row, place in enumerate(batch["place"].tolist()):
        prompt = rollouts.held_out.asked_as(place, HELD_OUT)
        tokens = done["answers"][row, 0]
        [one] = rollouts.completions([prompt], [tokens[tokens != NOT_A_TARGET].tolist()])
        found.append({"prompt": one.prompt, "text": one.text, "reward": float(done["rewards"][row, 0])})
    return found
