"""What a policy costs beside its training passes: the answers that it writes, and the reward model that reads them.

Counted as if every prompt filled its room and every answer had `task.max_new_tokens`: the most that a step takes. A
prompt is read once for all its answers; then every answer reads its own last token, with what was read before in a
cache. Nothing of it has a backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trainer.books.layout import micro_batch
from trainer.books.lengths import lengths
from trainer.books.parameters import parameters
from trainer.config import Config, load
from trainer.config.host import precision
from trainer.config.model import ModelConfig

FP32 = 4
Block = Callable[[ModelConfig, int, int], int]  # FLOPs of a block over so many tokens, and tokens of an encoder
EXTRA = 4  # tokens of a row of the reward model beside prompt and answer
ROUND = 8


@dataclass(frozen=True)
class RolloutAccount:
    """Operations of one step over all ranks."""

    generation: int = 0
    reward: int = 0

    @property
    def total(self) -> int:
        return self.generation + self.reward


NO_ROLLOUTS = RolloutAccount()


def reward_reader(config: Config) -> Config | None:
    """The reward model of a policy as it reads prompts with answers; null where a function judges, and where the run
    is not there any more."""
    if not config.task.writes or config.task.reward is None:
        return None
    file = Path(config.task.reward) / "config.yaml"
    if not file.is_file():
        return None
    found = load(file)
    return found.at_length(reward_length(config, found))


def reward_length(config: Config, reader: Config) -> int:
    """Tokens of a prompt with its answer as a reward model reads them, at the most: what it can read, where that is
    less."""
    behind = config.task.max_new_tokens if config.model.family == "encoder_decoder" else 0
    rounded = -(-(config.data.sequence_length + behind + EXTRA) // ROUND) * ROUND
    return min(rounded, reader.max_length) if reader.model.position == "learned" else rounded


def prompt_length(config: Config) -> int:
    """Tokens of the longest prompt: of a decoder, what an answer leaves of a row."""
    source, target = lengths(config)
    return source if target else source - config.task.max_new_tokens + 1


def generation_flops(config: Config, block: Block, head: int, projection: Callable[[ModelConfig, int], int]) -> int:
    """Operations of writing the answers to one prompt. head: of one token's logits."""
    model, k, tokens = config.backbone, config.task.samples, config.task.max_new_tokens
    prompt, encodes = prompt_length(config), model.family == "encoder_decoder"
    query, key = model.heads * model.head_channels, model.key_heads * model.head_channels
    source, first = (prompt, 1) if encodes else (0, prompt)  # tokens that the decoder reads first
    once = model.depth * block(model, first, source) + projection(model, first) + head
    if encodes:
        once += model.depth * block(model, prompt, 0) + projection(model, prompt)
    kept = 2 * model.width * 2 * source * key  # keys and values of the source, which were computed once
    one = model.depth * (block(model, 1, source) - kept) + projection(model, 1) + head
    each = 0
    for read in range(first, first + tokens - 1):
        seen = sum(min(read, model.window or read) if model.local(layer) else read for layer in range(model.depth))
        each += one + 4 * seen * query
    return once + k * each


@dataclass(frozen=True)
class RolloutWork:
    """What one rank moves and passes through in a step, beside operations."""

    bytes: float
    layers: int


def rollout_work(config: Config, passes: int) -> RolloutWork:
    """passes: micro-batches of a step. Weights are read for every token that is written, and the cache with them."""
    if not config.task.writes:
        return RolloutWork(0.0, 0)
    tokens, model = config.task.max_new_tokens, config.model
    moved = passes * tokens * (FP32 * parameters(config).total + cache_bytes(config) / 2)
    return RolloutWork(moved, passes * tokens * model.depth // 3)  # without a backward pass, which is twice the forward


def cache_bytes(config: Config) -> int:
    """Of keys and values, over one micro-batch's answers, when all are written; room doubles when it is full."""
    if not config.task.writes:
        return 0
    model, rows = config.backbone, micro_batch(config) * config.task.rows
    prompt, tokens = prompt_length(config), config.task.max_new_tokens
    low = 2 if precision(config) == "bf16" else FP32
    each = 2 * low * model.key_heads * model.head_channels * model.depth
    if model.family == "encoder_decoder":
        return rows * each * (2 * tokens + prompt)
    return rows * each * 2 * (prompt + tokens)


def logits_bytes(config: Config) -> int:
    """Of one token's probabilities of every answer of a micro-batch: fp32 logits, and twice fp64 beside them."""
    return micro_batch(config) * config.task.rows * config.vocabulary * (FP32 + 2 * 8) if config.task.writes else 0


def reward_bytes(config: Config) -> int:
    """Of the weights of the reward model, which every rank has as a whole."""
    reader = reward_reader(config)
    return 0 if reader is None else FP32 * parameters(reader).total


def reward_note(config: Config) -> str | None:
    """A line where the reward model's costs are not known."""
    if not config.task.writes or config.task.reward is None or reward_reader(config) is not None:
        return None
    return f"task.reward: {config.task.reward} is not there: what it costs to read the answers is not counted"
