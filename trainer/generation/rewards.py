"""What an answer is worth: by a function of it, or by a reward model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.config import Config
from trainer.data import Tokenizer
from trainer.descriptions.rewards import REWARDS
from trainer.generation.loaded_model import load_model
from trainer.run_folder import RunFolder
from trainer.tasks.formats import Rows
from trainer.tasks.rewards import Completion, reward_run
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class Judged:
    """What is told of an answer to whom rewards it: the answer, its tokens without its end, and those of the prompt's
    text."""

    completion: Completion
    answer: list[int]
    prompt: list[int]


Reward = Callable[[Sequence[Judged]], np.ndarray]  # float32, one number each


def reward_of(config: Config, device: torch.device) -> Reward:
    """The reward that `task` names. Raises UserError as `reward_run`."""
    return Learned(config, device) if config.task.reward is not None else Computed(config)


class Computed:
    """By a function of the registry."""

    def __init__(self, config: Config) -> None:
        self.task, self.name = config.task, str(config.task.reward_function)
        self.function = REWARDS.implementation(self.name)

    def __call__(self, answers: Sequence[Judged]) -> np.ndarray:
        """Raises UserError where the function returns no finite number."""
        return np.array([self._one(judged.completion) for judged in answers], np.float32)

    def _one(self, completion: Completion) -> float:
        value = self.function(completion, self.task)
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise UserError(
                f"task.reward_function: {self.name} returns {value!r} for an answer to {completion.record.where}; a "
                "finite number wanted"
            )
        return float(value)


class Learned:
    """By the score of a reward model for prompt and answer, in the form in which it was trained to read them."""

    def __init__(self, config: Config, device: torch.device) -> None:
        wider = reward_run(config)
        folder = RunFolder(Path(str(config.task.reward)))
        model: Any
        model, _, self.step = load_model(folder.path, wider)
        self.model, self.device = model.requires_grad_(False).to(device), device
        self.form = Rows(wider, Tokenizer(folder.tokenizer, wider.tokenizer.special_ids))

    @torch.no_grad()
    def __call__(self, answers: Sequence[Judged]) -> np.ndarray:
        each = [self.form.arrays(*self.form.row([one.prompt, one.answer])[:2]) for one in answers]
        batch = {name: torch.from_numpy(np.stack([one[name] for one in each])).to(self.device) for name in each[0]}
        scores: np.ndarray = self.model.logits(**batch)[:, 0].float().cpu().numpy()
        return scores
