"""DeepSpeed's configuration, made of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.books.layout import micro_batch, micro_batches, reduce_bucket, world_size, zero_stage
from trainer.books.wire import ALL_PERSIST
from trainer.config import Config
from trainer.config.wire import partition_ranks

SHOWN = frozenset({"comms_logger", "wall_clock_breakdown"})


def deepspeed_settings(config: Config) -> dict[str, Any]:
    """DeepSpeed's configuration for this run; raw keys of `engine.deepspeed` win."""
    stage = zero_stage(config)
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": reduce_bucket(config)}
    if config.engine.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if config.engine.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    if stage in (1, 2):  # each rank's part of a bucket to that rank, where DeepSpeed would send all ranks the whole
        zero["use_multi_rank_bucket_allreduce"] = False
    if config.engine.keep_gathered:
        zero["stage3_param_persistence_threshold"] = ALL_PERSIST
    if (ranks := partition_ranks(config)) != world_size(config):
        zero["zero_hpz_partition_size"] = ranks
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch(config),
        "gradient_accumulation_steps": micro_batches(config),
        "zero_optimization": zero,
        "gradient_clipping": (config.optim.clip or 0.0) if stage else 0.0,  # stage 0 is clipped here, with its norm
        "zero_force_ds_cpu_optimizer": False,  # torch's optimizer also when offloaded: DeepSpeed's own need a compiler
        "zero_allow_untested_optimizer": True,  # DeepSpeed knows AdamW and few others; the update is element-wise
        "steps_per_print": 2**62,
    }
    if config.engine.wire_gradients == "bf16":
        settings["communication_data_type"] = "bf16"
    if SHOWN.intersection(config.engine.deepspeed):
        settings["log_level"] = "info"  # DeepSpeed shows these in its log, which is silent otherwise
    return _merged(settings, config.engine.deepspeed)


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), dict)
        result[name] = _merged(result[name], value) if both else value
    return result
