"""What a step found, loss, norm and side sums, on its way from the device to the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainer.books.layout import zero_stage
from trainer.config import Config
from trainer.descriptions.optimizers import OPTIMIZERS
from trainer.training.distributed import World
from trainer.training.faults.guard import Gradients


def reasons_to_wait(config: Config) -> list[str]:
    """Why the loss and the norm of every step must be known on the host before its update; each begins with the key.

    Where there is none, an update is left out on the device where they are not finite, and read one step late.
    """
    debug, found = config.debug, []
    if config.anomalies.spike != "ignore":
        found.append(f"anomalies.spike={config.anomalies.spike} compares them with those of earlier steps")
    if not OPTIMIZERS[config.optim.name].leaves_out:
        found.append(f"optim.name={config.optim.name} cannot leave out an update on the device")
    if config.engine.offload_optimizer:
        found.append("engine.offload_optimizer=true updates on the host")
    if zero_stage(config) == 3:
        found.append("engine.zero_stage=3: DeepSpeed reads the norm on the host")
    if config.task.writes:
        found.append(f"task.kind={config.task.kind} writes its answers with the updated weights")
    if config.model.experts.count:
        found.append("model.experts: the loads of experts are added up on the host")
    if debug.first_nonfinite:
        found.append("debug.first_nonfinite=true looks for the place before the gradients are gone")
    return found


class Arriving:
    """Numbers of a device that are being copied to the host. To read them waits for that copy, and for nothing that
    was asked of the device later."""

    def __init__(self, numbers: Tensor) -> None:
        """1-D."""
        self._event: torch.cuda.Event | None = None
        self._host = numbers
        if numbers.is_cuda:
            self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._host.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        return [float(one) for one in self._host.tolist()]


class StepValues:
    """Loss, norm and side sums of one step, over all ranks."""

    def __init__(
        self,
        world: World,
        targets: float,
        loss_sum: Tensor,
        norm: Tensor,
        side_sums: Mapping[str, Tensor],
        source: Callable[[float, float], str],
    ) -> None:
        """Of this rank, without dimensions; the norm is that of all ranks. Collective.

        source: where a step of such a loss and norm first was not finite, in words.
        """
        self._targets, self._source, self._names = targets, source, sorted(side_sums)
        mine = [loss_sum, norm.to(loss_sum.device).double() / world.size, *(side_sums[name] for name in self._names)]
        numbers = torch.stack([one.detach().double().reshape(()) for one in mine])
        world.add_up(numbers)
        self.nonfinite = (
            ~torch.isfinite(numbers[:2]).all()
        ).float()  # 1 where loss or norm is not finite, on the device
        self._arriving = Arriving(numbers)
        self._read: Gradients | None = None

    def read(self) -> Gradients:
        """Waits for them, the first time."""
        if self._read is None:
            loss, norm, *sides = self._arriving.read()
            source, sums = self._source(loss, norm), dict(zip(self._names, sides, strict=True))
            self._read = Gradients(loss / max(self._targets, 1), norm, sums, source)
        return self._read
