"""What keeping states in the host's memory takes there, and what it costs in time: the way there and back, and an
update by processors.

Gradients of a rank's part go down in every micro-batch, updated weights come up once; with parameters offloaded too
each gather begins on the host (Ren et al. 2021, ZeRO-Offload, section 4). The update is bound by the host's memory and
by the threads of a rank.
"""

from __future__ import annotations

from typing import NamedTuple

from trainer.books.activations import FP32
from trainer.books.layout import micro_batches, world_size, zero_stage
from trainer.books.parameters import parameters
from trainer.books.shapes import shapes
from trainer.config import Config
from trainer.config.placement import ranks_per_host
from trainer.descriptions.optimizers import size


class Rate(NamedTuple):
    """Pessimistic, likely, optimistic."""

    low: float
    middle: float
    high: float


HOST_BANDWIDTH = 25e9  # B/s of PCIe 4.0 x16 in one direction, of one device, where machine.host_bandwidth is null
HOST_SHARE = Rate(0.1, 0.16, 0.6)  # that pageable copies of eight devices at a time reach of it
# Numbers a second that one thread updates, its norm, scaling and rounding included: LLaMA-7B with DeepSpeed's CPUAdam,
# one thread a rank (tests/trainer/books/published_rows.py); and what a whole host does (Ren et al. 2021, table 4: 1
# billion numbers in 0.31 s).
PER_THREAD = Rate(45e6, 62e6, 90e6)
PER_HOST = 3.2e9


def offload_seconds(config: Config, column: int) -> float:
    """Of one step, beside everything else; column: 0 pessimistic, 1 likely, 2 optimistic.

    engine.threads that are not stated are one a rank, as launchers leave it, and at the best the whole host.
    """
    if not config.engine.offload_optimizer:
        return 0.0
    numbers, passes = parameters(config).total / world_size(config), micro_batches(config)
    sent = FP32 * numbers * (passes + 1)
    if config.engine.offload_parameters:
        sent += FP32 * numbers * 2 * passes
    bandwidth = (config.machine.host_bandwidth or HOST_BANDWIDTH) * HOST_SHARE[column]
    threads, share = config.engine.threads, PER_HOST / ranks_per_host(config)
    rate = min(share, (threads or 1) * PER_THREAD[column])
    if threads is None and column == 2:
        rate = share
    assert zero_stage(config)
    return sent / bandwidth + numbers / rate


def host_buffers(config: Config, share: int) -> int:
    """Numbers that DeepSpeed holds on the host beside weights and states of the rank's `share` of the parameters.

    Up to stage 2 gradients, those of micro-batches before apart, updated weights on their way, and one parameter; at
    stage 3 gradients as they come and as the optimizer reads them."""
    if zero_stage(config) == 3:
        return 2 * share
    return share * (2 + (micro_batches(config) > 1)) + _largest(config)


def device_buffers(config: Config) -> int:
    """Numbers that DeepSpeed holds on the device because states are on the host: one parameter, up to stage 2."""
    return _largest(config) if config.engine.offload_optimizer and zero_stage(config) < 3 else 0


def _largest(config: Config) -> int:
    """Numbers of the largest parameter."""
    return max(size(shape) for _, shape in shapes(config))
