"""What a policy wrote, and functions that reward it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.books.rollouts import EXTRA, reward_length
from trainer.config import Config, load
from trainer.data.tokenizer import Tokenizer
from trainer.run_folder import RunFolder
from trainer.tasks.records import Record
from trainer.utils.errors import UserError


@dataclass(frozen=True)
class Completion:
    """One answer to a prompt."""

    prompt: str
    text: str
    tokens: int  # its end included
    ended: bool  # whether it came to an end by itself
    answer: str | None  # the record's own, where the reward reads it
    record: Record  # `record.fields` has all that the file says


def contains(completion: Completion, task: Any) -> float:
    """1 where the pattern is found in the text."""
    return float(re.search(task.reward_pattern, completion.text) is not None)


def length(completion: Completion, task: Any) -> float:
    """Minus the distance from the wanted length, as a share of it."""
    return -abs(completion.tokens - task.reward_length) / float(task.reward_length)


def exact_match(completion: Completion, task: Any) -> float:
    """1 where the text is the record's answer."""
    return float(completion.text.strip() == str(completion.answer).strip())


def reward_run(config: Config) -> Config:
    """The configuration of the reward model that judges a policy, with rows as long as any prompt with its answer.

    Raises UserError where there is none, where it has another tokenizer than the policy, and where it cannot read so
    many tokens.
    """
    folder = RunFolder(Path(str(config.task.reward)))
    if not folder.config.is_file():
        raise UserError(f"task.reward: {folder.path}: no run folder; name a run of isoflop finetune <run> task=reward")
    found = load(folder.config)
    if found.task.kind != "reward":
        kind = "pre-training" if found.task.kind is None else f"task.kind={found.task.kind}"
        raise UserError(f"task.reward: {folder.path} is a run of {kind}; a reward model wanted, of task=reward")
    pieces = [
        Tokenizer(Path(str(file)), one.tokenizer.special_ids).sha256
        for file, one in ((folder.tokenizer, found), (config.tokenizer.path, config))
    ]
    if pieces[0] != pieces[1]:
        raise UserError(
            f"task.reward: {folder.path} has another tokenizer than the policy; tune a reward model from "
            f"{config.task.parent} or from a run of its tokenizer"
        )
    wanted = config.data.sequence_length + EXTRA
    if config.model.family == "encoder_decoder":
        wanted += config.task.max_new_tokens
    if (length := reward_length(config, found)) < wanted:
        raise UserError(
            f"task.reward: {folder.path} reads {length} tokens, a prompt with its answer has up to {wanted} there; "
            f"lower data.sequence_length by {wanted - length}"
        )
    return found.at_length(length)
