"""Measures the peak of one rank's engine on the CPU: `python memory_probe.py '<config as JSON>'`.

Prints, in bytes, the most that the process's CPU allocator held at a time during three optimizer steps.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


def main(settings: dict[str, Any]) -> None:
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1"}
    import torch
    from probe_batches import micro_batch_of
    from torch.profiler import ProfilerActivity, profile

    from trainer.config import Config
    from trainer.training.distributed import join
    from trainer.training.engine import Engine

    torch.set_num_threads(1)
    # One rank has nothing to reduce; gloo's threads would free buffers where the profiler does not look.
    torch.distributed.all_reduce = lambda *_, **__: None
    config = Config.model_validate(settings)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        engine = Engine(config, join("cpu", 60.0))
        batches = [micro_batch_of(config, seed) for seed in range(engine.accumulation)]
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
