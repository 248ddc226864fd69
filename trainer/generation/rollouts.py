"""Rollouts: the answers that a policy writes to the prompts of a step, their rewards, and what its reference thinks of
them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from trainer.config import Config
from trainer.config.host import precision
from trainer.data import Tokenizer
from trainer.generation.reader import Reader
from trainer.generation.rewards import Judged, Reward, reward_of
from trainer.generation.sampling import draw_answers
from trainer.models import NOT_A_TARGET, Model
from trainer.models.policy import PolicyModel
from trainer.objectives import Batch
from trainer.objectives.noise import rows, uniform
from trainer.tasks import Split, Task
from trainer.tasks.prompts import HELD_OUT, Prompt, Prompts
from trainer.tasks.rewards import Completion
from trainer.training.completion import Phase, silent
from trainer.utils.errors import UserError


class Rollouts:
    """Completes batches of prompts (`trainer.tasks.prompts.Prompts`).

    An answer is a function of the weights, the run's seed, the number of its sample in the run and its own number among
    the k of its prompt: the same at any number of ranks, micro-batch and ZeRO stage of up to 2, but for numbers that
    round to another token. Held-out prompts have answers of their own numbers, which are always the same ones.
    """

    def __init__(self, config: Config, model: PolicyModel, task: Task, read: Callable[[], None] = lambda: None) -> None:
        """read: called whenever the model has read a token. Raises UserError where the reward cannot be had."""
        if config.model.drops:
            raise UserError("model.dropout: a policy learns from what it writes without dropout; leave it at 0")
        self.config, self.model, self.task, self.read = config, model, task, read
        self.tokenizer = Tokenizer(task.tokenizer_file, config.tokenizer.special_ids)
        model.vocabulary = self.tokenizer.vocabulary
        self.device = next(model.parameters()).device
        self.reward: Reward = reward_of(config, self.device)

    @cached_property
    def train(self) -> Prompts:
        """The prompts of the training split."""
        return self._prompts("train")

    @cached_property
    def held_out(self) -> Prompts:
        """Those of the other."""
        return self._prompts("held_out")

    def _prompts(self, split: Split) -> Prompts:
        asked = self.task.train if split == "train" else self.task.held_out
        return Prompts([(one.record, one.templates) for one in asked], self.config, self.tokenizer)

    def complete(self, batch: Batch, phase: Phase = silent) -> Batch:
        """The batch with answers [B, k, S], rewards and reference [B, k]; see `PolicyModel.forward`."""
        found = {name: array.copy() for name, array in batch.items() if name not in ("place", "turn")}
        shape = found["targets"].shape
        found["answers"] = np.full(found["tokens"].shape, NOT_A_TARGET, np.int64)
        found |= {name: np.zeros(shape, np.float32) for name in ("rewards", "reference", "ended")}
        real = np.flatnonzero((found["targets"] != NOT_A_TARGET).any(axis=1))
        if len(real):
            phase("generation")
            places, turns = batch["place"][real], batch["turn"][real]
            prompts = self._asked(places, turns)
            answers = self.write(prompts, self._chances(places, turns))
            for number, answer in enumerate(answers):
                row, k = real[number // shape[1]], number % shape[1]
                for name, array in self.held_out.answered(prompts[number // shape[1]], answer).items():
                    found[name][row, k] = array
                found["ended"][row, k] = answer[-1] in self.tokenizer.ends
            phase("reward")
            found["rewards"][real] = self.judge(prompts, answers).reshape(-1, shape[1])
        phase("reference")
        found["reference"] = self._likelihood(self.model.reference, found)
        return found

    def of_reference(self, batch: Batch) -> tuple[list[Prompt], list[list[int]]]:
        """The prompts of a batch without blank rows, and the answers that the reference writes by the same chances."""
        prompts = self._asked(batch["place"], batch["turn"])
        return prompts, self.write(prompts, self._chances(batch["place"], batch["turn"]), self.model.reference)

    def divergence(self, done: Batch) -> np.ndarray:
        """float32 [B, k]: the log of each answer's probability over that under the reference."""
        return self._likelihood(self.model.policy, done) - done["reference"]

    def _asked(self, places: np.ndarray, turns: np.ndarray) -> list[Prompt]:
        """The prompts at these places, by samples of these numbers."""
        return [
            (self.held_out if turn == HELD_OUT else self.train).asked_as(place, turn)
            for place, turn in zip(places.tolist(), turns.tolist(), strict=True)
        ]

    def _chances(self, places: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """float64 in [0, 1) [B x k, tokens]: those of every answer, by its number."""
        k, tokens = self.config.task.samples, self.config.task.max_new_tokens
        held_out = turns == HELD_OUT
        numbers = (np.where(held_out, places, turns)[:, None] * k + np.arange(k)).reshape(-1)
        return uniform(rows(self.config.seed, "answer", numbers, tokens, part=int(held_out[0])))

    def write(self, prompts: list[Prompt], chances: np.ndarray, writer: Model | None = None) -> list[list[int]]:
        """k answers to every prompt, with the token that ended them where one did. writer: None, the policy."""
        model, pad = writer or self.model.policy, self.tokenizer.specials["<pad>"]
        decodes = self.config.model.family == "decoder"
        longest = max(len(one.ids) for one in prompts)
        tokens = torch.full((len(prompts), longest), pad, device=self.device)
        segments = torch.full_like(tokens, -1)
        for row, one in enumerate(prompts):  # what is to go on is padded on the left
            where = slice(longest - len(one.ids), None) if decodes else slice(0, len(one.ids))
            tokens[row, where], segments[row, where] = torch.tensor(one.ids, device=self.device), 0
        given = segments if bool((segments < 0).any()) else None
        most = max(self.config.max_length, self.config.data.sequence_length)
        learning = model.training
        model.eval()
        try:
            with self._precision():
                if decodes:
                    reader = Reader(model, self.tokenizer.vocabulary, most)
                    return draw_answers(reader, tokens, given, chances, self.tokenizer.ends, self.read)
                reader = Reader(model, self.tokenizer.vocabulary, most, source=tokens, source_segments=given)
                start = torch.full((len(prompts), 1), self.tokenizer.start, device=self.device)
                return draw_answers(reader, start, None, chances, self.tokenizer.ends, self.read)
        finally:
            model.train(learning)

    def completions(self, prompts: list[Prompt], answers: list[list[int]]) -> list[Completion]:
        """The answers as texts; k to every prompt."""
        k, found = len(answers) // len(prompts), []
        for number, answer in enumerate(answers):
            prompt, ended = prompts[number // k], answer[-1] in self.tokenizer.ends
            text = self.tokenizer.decode(answer[:-1] if ended else answer)
            found.append(Completion(prompt.text, text, len(answer), ended, prompt.answer, prompt.record))
        return found

    def judge(self, prompts: list[Prompt], answers: list[list[int]]) -> np.ndarray:
        """float32: the reward of every answer."""
        k = len(answers) // len(prompts)
        judged = [
            Judged(one, answer[:-1] if one.ended else answer, prompts[number // k].words)
            for number, (one, answer) in enumerate(zip(self.completions(prompts, answers), answers, strict=True))
        ]
        with self._precision():
            return self.reward(judged)

    @torch.no_grad()
    def _likelihood(self, model: Model, batch: Batch) -> np.ndarray:
        """float32 [B, k]: log-probability of the answers of a complete batch."""
        beside = ("targets", "rewards", "reference", "ended")
        read = {name: torch.from_numpy(array).to(self.device) for name, array in batch.items() if name not in beside}
        with self._precision():
            found: np.ndarray = self.model.likelihood(model, **read).float().cpu().numpy()
        return found

    def _precision(self) -> torch.autocast:
        """As in the forward pass of training."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision(self.config) == "bf16")
