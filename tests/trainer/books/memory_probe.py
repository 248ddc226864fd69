"""Measures the peak of one rank's engine on the CPU: `python -m tests.trainer.books.memory_probe '<config as JSON>'`.

Prints, in bytes, the most that the process's CPU allocator held at a time during three optimizer steps. One rank,
or the one of several that the environment says.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main(settings: dict[str, Any]) -> None:
    os.environ.setdefault("RANK", "0")
    alone = os.environ.setdefault("WORLD_SIZE", "1") == "1"
    import torch
    from torch.profiler import ProfilerActivity, profile

    from tests.trainer.books.probe_batches import micro_batch_of
    from tests.trainer.training import counted_group
    from trainer.config import Config
    from trainer.data import StepBatch
    from trainer.training.distributed import join
    from trainer.training.engine import Engine

    torch.set_num_threads(1)
    # Gloo's threads would free buffers where the profiler does not look. One rank has nothing to reduce.
    if alone:
        torch.distributed.all_reduce = lambda *_, **__: None
    else:
        counted_group.register()
        init = torch.distributed.init_process_group
        torch.distributed.init_process_group = lambda backend, **more: init("settled", **more)
    config = Config.model_validate(settings)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        engine = Engine(config, join("cpu", 60.0))
        drawn = [micro_batch_of(config, seed) for seed in range(engine.accumulation)]
        batches = next(engine.sharing.steps(one for one in [StepBatch(0, drawn, 0.0)])).micro_batches
        for _ in range(3):
            engine.forward_backward(batches, 100.0)
            engine.gradient_norm()
            engine.update(1e-3)
    now = peak = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    print(json.dumps({"peak": peak}))
    engine.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
