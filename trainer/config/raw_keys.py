"""The raw keys of `engine.deepspeed`: each that DeepSpeed knows is passed on, or refused with the reason; none is taken
without effect. tests/trainer/training/engine/test_raw_keys.py compares the table with the installed version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.utils.errors import nearest

PASSED = frozenset(
    {
        "zero_optimization",
        # arithmetic
        "prescale_gradients",
        "gradient_predivide_factor",
        # what DeepSpeed itself measures and shows
        "flops_profiler",
        "comms_logger",
        "wall_clock_breakdown",
        "memory_breakdown",
        "tensorboard",
        "csv_monitor",
        "log_level",
        # the interpreter
        "disable_python_gc",
    }
)

_REMOVED = "this version of DeepSpeed no longer has it"
_CHECKPOINT = "checkpoints are isoflop's own: set checkpoint.* instead"
_UNUSED = "it has no effect on training here"
_INT8 = "{} in 8 bits need DeepSpeed's kernels for one kind of GPU, and were not tried: set {} instead"

# Refused, and why: what our own groups decide would contradict the checkpoint, the schedule or the data order.
REFUSED = {
    "bf16": "set engine.precision instead",
    "bfloat16": "set engine.precision instead",
    "fp16": "set engine.precision instead",
    "amp": "set engine.precision instead",
    "torch_autocast": "set engine.precision instead, engine.wire and engine.wire_gradients for what ranks send",
    "communication_data_type": "set engine.wire_gradients instead",
    "data_types": "gradients and optimizer states are fp32 at every stage: set engine.precision for the forward pass",
    "optimizer": "set optim.* instead",
    "scheduler": "set optim.schedule instead",
    "zero_allow_untested_optimizer": "set optim.* instead",
    "zero_force_ds_cpu_optimizer": "set engine.offload_optimizer instead, which steps with torch's optimizer",
    "gradient_clipping": "set optim.clip instead",
    "gradient_allreduce_op": "gradients are averaged over all targets of a step, whatever the number of ranks",
    "train_batch_size": "set optim.batch_size instead",
    "train_micro_batch_size_per_gpu": "set engine.micro_batch instead",
    "gradient_accumulation_steps": "set optim.batch_size and engine.micro_batch instead",
    "managed_gradient_accumulation": "set optim.batch_size and engine.micro_batch instead",
    "activation_checkpointing": "set engine.activation_checkpointing instead",
    "compile": "set engine.compile instead",
    "checkpoint": _CHECKPOINT,
    "datastates_ckpt": _CHECKPOINT,
    "nebula": _CHECKPOINT,
    "wandb": "set tracker.wandb instead",
    "comet": "metrics.jsonl has every number: set tracker.* instead",
    "data_efficiency": "set curriculum.* and data.* instead: the order of samples is a function of the seed",
    "curriculum_learning": "set curriculum.* instead: the order of samples is a function of the seed",
    "dataloader_drop_last": "set data.* instead: no sample is dropped",
    "steps_per_print": "set tracker.console instead",
    "timers": "throughput is in every step record",
    "dump_state": "config.yaml and environment.json of the run folder say what ran",
    "tensor_parallel": "one rank computes whole layers here: set engine.zero_stage instead",
    "sequence_parallel_size": "set engine.sequence_parallel instead",
    "seq_parallel_communication_data_type": "ranks exchange what products take: set engine.precision instead",
    "expert_parallel": "set engine.expert_parallel instead",
    "use_data_before_expert_parallelism": "such ranks are consecutive: set engine.expert_parallel instead",
    "pipeline": "one rank computes all layers here: set engine.zero_stage instead",
    "hybrid_engine": "generation is isoflop generate's: DeepSpeed's engine for it is not used",
    "autotuning": "DeepSpeed's launcher does that, which is not used: isoflop plan tells what fits",
    "elasticity": "a resume may have any number of ranks as it is",
    "weight_quantization": "that is for inference",
    "aio": "offloading to NVMe is not offered: set engine.offload_optimizer or engine.offload_parameters instead",
    "compression_training": _REMOVED,
    "quantize_training": _REMOVED,
    "sparse_gradients": _REMOVED,
    "eigenvalue": _REMOVED,
    "sparse_attention": _REMOVED,
    "graph_harvesting": _REMOVED,
    "progressive_layer_drop": _REMOVED,
    "disable_allgather": _UNUSED,
    "vocabulary_size": "set tokenizer.vocabulary instead",
}

# Of zero_optimization, where all keys but these are passed.
ZERO_REFUSED = {
    "stage": "set engine.zero_stage instead",
    "offload_optimizer": "set engine.offload_optimizer instead",
    "offload_param": "set engine.offload_parameters instead",
    "cpu_offload": "set engine.offload_optimizer instead",
    "cpu_offload_param": "set engine.offload_parameters instead",
    "cpu_offload_use_pin_memory": "set engine.offload_optimizer instead",
    "zenflow": "updates that come late would differ between ZeRO stages: set engine.offload_optimizer instead",
    "compute_grad_norm": "the norm is in every step record, and anomalies.* decides by it",
    "load_from_fp32_weights": _CHECKPOINT,
    "elastic_checkpoint": _CHECKPOINT,
    "pipeline_loading_checkpoint": _CHECKPOINT,
    "gather_16bit_weights_on_model_save": _CHECKPOINT,
    "stage3_gather_16bit_weights_on_model_save": _CHECKPOINT,
    "stage3_gather_fp16_weights_on_model_save": _CHECKPOINT,
    "save_muon_momentum_buffer_in_memory": "set optim.* instead",
    "zero_hpz_partition_size": "set engine.partition instead",
    "mics_shard_size": "this version of DeepSpeed no longer has it: set engine.partition instead",
    "mics_hierarchical_params_gather": "this version of DeepSpeed no longer has it: set engine.partition instead",
    "zero_quantized_weights": _INT8.format("weights", "engine.wire=bf16"),
    "zero_quantized_nontrainable_weights": _INT8.format("weights", "engine.wire=bf16"),
    "zero_quantized_gradients": "it has no effect on the ranks of one host: set engine.wire_gradients=bf16 instead",
    "zeropp_loco_param": _REMOVED,
}


def raw_key_misfits(raw: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key that is not passed on."""
    for name, value in raw.items():
        if name in REFUSED:
            yield f"engine.deepspeed.{name}: {REFUSED[name]}"
        elif name not in PASSED:
            yield f"engine.deepspeed.{name}: DeepSpeed knows no such key{nearest(name, sorted(PASSED))}"
        elif name == "zero_optimization" and isinstance(value, Mapping):
            for key in value:
                if key in ZERO_REFUSED:
                    yield f"engine.deepspeed.{name}.{key}: {ZERO_REFUSED[key]}"
