"""The group `debug`: what is measured inside of a training, and costs something."""

from __future__ import annotations

from typing import Any

from trainer.utils.schema import Section, key


class DebugConfig(Section):
    """Diagnostics, all of them off; none changes the outcome."""

    noise_every: int | None = key(
        None, "steps between two estimates of the gradient noise scale; null: none", "steps", ge=1, introduced=None
    )
    updates_every: int | None = key(
        None,
        "steps between two measurements of gradients, weights and updates by part; null: none",
        "steps",
        ge=1,
        introduced=None,
    )
    first_nonfinite: bool = key(
        False, "name the first module whose output or gradient is not finite, where a step fails", introduced=False
    )


def debug_misfits(config: Any) -> list[str]:
    """What cannot be measured in this run: a line each."""
    wrong = []
    batch, micro = config.optim.batch_size, config.engine.micro_batch_of(config.optim.batch_size)
    if config.debug.noise_every is not None and config.launch.ranks == 1 and micro >= batch:
        way_out = f"set engine.micro_batch={batch // 2} or less" if batch > 1 else "raise optim.batch_size"
        wrong.append(
            f"debug.noise_every: the gradient noise scale needs two micro-batches or two ranks, and a step is one "
            f"micro-batch of {batch} on one rank; {way_out}"
        )
    if config.debug.first_nonfinite and config.engine.compile is True:
        wrong.append("debug.first_nonfinite: a compiled model has no modules to watch; leave engine.compile=false")
    return wrong
