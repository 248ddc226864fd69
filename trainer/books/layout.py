"""How a configuration is laid out over ranks: the small sums that accounts and engine must agree on."""

from __future__ import annotations

from trainer.books.parameters import parameters
from trainer.books.shapes import shapes
from trainer.config import Config
from trainer.config.division import data_ranks
from trainer.descriptions.optimizers import OPTIMIZERS


def world_size(config: Config) -> int:
    """Ranks of the run; each drives one device."""
    return config.launch.ranks


def zero_stage(config: Config) -> int:
    """The stage asked for, else 0 on one rank and 1 on several."""
    if config.engine.zero_stage is not None:
        return config.engine.zero_stage
    return 0 if world_size(config) == 1 else 1


def averages_kept(config: Config) -> int:
    """Numbers that the averages of the weights keep for each parameter, over all ranks together."""
    return sum(one.kept for one in config.optim.averages.values())


def averages_moved(config: Config) -> float:
    """Numbers that are read and written for each parameter in a step to keep the averages, over all ranks together."""
    return sum(2 / one.every_steps if one.every_steps else 3.0 for one in config.optim.averages.values())


def checkpoint_bytes(config: Config) -> int:
    """Of a checkpoint: fp32 weights, states of the optimizer, and averages that have all the weights they keep."""
    numbers = (1 + averages_kept(config)) * parameters(config).total
    return 4 * (numbers + OPTIMIZERS[config.optim.name].numbers(shapes(config)))


def micro_batch(config: Config, batch_size: int | None = None) -> int:
    """Sequences per rank and forward pass, or per group of ranks that share them.

    batch_size: of another step than those of optim.batch_size, in the warm-up of batches."""
    return config.engine.micro_batch_of(-(-(batch_size or config.optim.batch_size) // data_ranks(config)))


def micro_batches(config: Config) -> int:
    """Forward passes of one rank in one optimizer step."""
    share = -(-config.optim.batch_size // data_ranks(config))
    return -(-share // micro_batch(config))


def reduce_bucket(config: Config) -> int:
    """Gradients, in numbers, that are reduced together: DeepSpeed's default, but no more than the model has."""
    return min(500_000_000, parameters(config).total)
