"""Throughput that others published of set-ups of their own, as configurations here: a second set for the clock, which
no share of 2023 was fitted to (those of 2022 to Pythia's, COMPILED and what offload costs to a row or two). Each with
its source, the published tokens per second and GPU, and how far off a plan may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainer.config import Config

CONF = Path(__file__).parents[3] / "conf"
TITAN = "torchtitan docs/performance.md (2024)"
TITAN_H100 = "torchtitan benchmarks, Llama 3.1 on H100 96 GB at 500 W (2024)"
NANO = "nanoGPT README (January 2023)"
PYTHIA = "Biderman et al. 2023, table of GPU hours: 299.9 billion tokens"
GIST = "gist of chenyaofo: LLaMA-7B, DeepSpeed 0.14.2, torch 2.2, 8 A800 (2024)"

LLAMA3_8B = {"depth": 32, "width": 4096, "heads": 32, "kv_heads": 8, "ffn_width": 14336, "tied": False}
LLAMA3_70B = {"depth": 80, "width": 8192, "heads": 64, "kv_heads": 8, "ffn_width": 28672, "tied": False}
LLAMA2_13B = {"depth": 40, "width": 5120, "heads": 40, "ffn_width": 13824, "tied": False}
LLAMA_7B = {"depth": 32, "width": 4096, "heads": 32, "ffn_width": 11008, "tied": False, "vocabulary": 32000}
GPT2 = {"gated": False, "activation": "gelu", "norm": "layernorm", "position": "learned", "bias": True}
GPT2 |= {"depth": 12, "width": 768, "heads": 12, "vocabulary": 50304}
NEOX = {"gated": False, "activation": "gelu", "norm": "layernorm", "bias": True, "rotary_fraction": 0.25}
NEOX |= {"parallel": True, "tied": False, "vocabulary": 50304}
COMPOSED = {"kernels": {"attention": "reference", "norm": "torch", "loss": "torch"}}
H100_96 = {"memory_bandwidth": 2.4e12, "memory_bytes": 96_000_000_000, "power_watts": 500.0}


class Published(NamedTuple):
    name: str
    machine: str
    gpus: int
    model: dict[str, Any]
    length: int
    batch: int  # sequences a step, over all GPUs
    engine: dict[str, Any]
    tokens: float  # a second and GPU
    source: str
    tolerance: float = 0.15  # relative
    other: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - never changed


def _fsdp(rows: int, again: Any = False, **other: Any) -> dict[str, Any]:
    engine = {"zero_stage": 3, "wire": "bf16", "micro_batch": rows, "activation_checkpointing": again}
    return engine | {"compile": False} | other


OLD: dict[str, dict[str, Any]] = {"machine": {"software": 2022}}


def _pythia(depth: int, width: int, heads: int, gpus: int, hours: float, rows: int) -> Published:
    model = NEOX | {"depth": depth, "width": width, "heads": heads}
    engine = {"zero_stage": 1, "micro_batch": rows, "compile": False, "activation_checkpointing": True}
    rate = 299.9e9 / hours / 3600
    return Published(
        f"Pythia {depth} x {width}", "a100-sxm-40gb", gpus, model, 2048, 1024, engine, rate, PYTHIA, 0.3, OLD
    )


def _deepspeed(stage: int, again: bool, rows: int, sequences: float, tolerance: float = 0.2, **other: Any) -> Published:
    engine = {"zero_stage": stage, "wire": "bf16", "wire_gradients": "bf16", "micro_batch": rows, "compile": False}
    engine |= {"activation_checkpointing": again} | other
    name = f"LLaMA-7B stage {stage}{' again' if again else ''} x {rows}{' offload' if other else ''}"
    machine = {"machine": {"link_bandwidth": 2e11}}
    rate = sequences * 4096 / 8
    return Published(name, "a100-sxm-80gb", 8, LLAMA_7B, 4096, 64, engine, rate, GIST, tolerance, machine)


OLMO_7B = {"depth": 32, "width": 4096, "heads": 32, "ffn_width": 11008, "tied": False, "vocabulary": 100352}
OLMO_7B |= {"qk_norm": "projection", "norm_position": "reordered"}
BLOOM = {"depth": 70, "width": 14336, "heads": 112, "vocabulary": 250880, "position": "alibi", "gated": False}
BLOOM |= {"activation": "gelu", "norm": "layernorm", "bias": True, "embedding_norm": True}
OPT = {"depth": 96, "width": 12288, "heads": 96, "vocabulary": 50272, "position": "learned", "gated": False}
OPT |= {"activation": "relu", "norm": "layernorm", "bias": True}
LLAMA_1B = {"depth": 16, "width": 2048, "heads": 32, "kv_heads": 8, "ffn_width": 8192, "vocabulary": 49152}


def _playbook(gpus: int, rate: float, tolerance: float) -> Published:
    engine = {"zero_stage": 0, "micro_batch": 1, "compile": False}
    source = "Ultra-Scale Playbook (2025), data parallelism; its model and micro-batch are not printed beside it"
    return Published(f"1B on {gpus}", "h100-sxm", gpus, LLAMA_1B, 4096, gpus, engine, rate, source, tolerance)


OFF = {"offload_optimizer": True}
PUBLISHED = [
    Published(
        "8B, every 2nd block",
        "a100-sxm-80gb",
        64,
        LLAMA3_8B | {"vocabulary": 128256},
        8192,
        64,
        _fsdp(1, 2),
        2904,
        TITAN,
    ),
    Published(
        "70B, recomputed",
        "a100-sxm-80gb",
        64,
        LLAMA3_70B | {"vocabulary": 128256},
        8192,
        64,
        _fsdp(1, True),
        331,
        TITAN,
    ),
    Published("Llama 2 13B", "a100-sxm-80gb", 64, LLAMA2_13B | {"vocabulary": 32000}, 4096, 128, _fsdp(2), 2162, TITAN),
    Published(
        "Llama 2 13B, every 2nd",
        "a100-sxm-80gb",
        64,
        LLAMA2_13B | {"vocabulary": 32000},
        4096,
        128,
        _fsdp(2, 2),
        1914,
        TITAN,
    ),
    Published(
        "Llama 2 70B, recomputed",
        "a100-sxm-80gb",
        64,
        LLAMA3_70B | {"vocabulary": 32000},
        4096,
        128,
        _fsdp(2, True),
        353,
        TITAN,
    ),
    Published(
        "8B",
        "h100-sxm",
        8,
        LLAMA3_8B | {"vocabulary": 128256},
        8192,
        16,
        _fsdp(2, 2),
        5762,
        TITAN_H100,
        0.2,
        {"machine": H100_96},
    ),
    Published(
        "8B, compiled",
        "h100-sxm",
        8,
        LLAMA3_8B | {"vocabulary": 128256},
        8192,
        16,
        _fsdp(2, 2, compile=True),
        6667,
        TITAN_H100,
        0.2,
        {"machine": H100_96},
    ),
    Published("124M", "a100-sxm-40gb", 1, GPT2, 1024, 12, {"compile": False}, 12288 / 0.25, NANO, 0.3, COMPOSED),
    Published(
        "124M, compiled", "a100-sxm-40gb", 1, GPT2, 1024, 12, {"compile": True}, 12288 / 0.135, NANO, 0.3, COMPOSED
    ),
    _pythia(6, 512, 8, 32, 510, 32),
    _pythia(12, 768, 12, 32, 1030, 32),
    _pythia(24, 1024, 16, 32, 2540, 16),
    _pythia(16, 2048, 8, 64, 4830, 16),
    _pythia(24, 2048, 16, 64, 7120, 16),
    _pythia(32, 2560, 32, 64, 14240, 8),
    _pythia(32, 4096, 32, 128, 33500, 8),
    _pythia(36, 5120, 40, 256, 72300, 4),
    _deepspeed(2, False, 1, 5.33, 0.3),
    _deepspeed(2, True, 1, 4.19, 0.3),
    _deepspeed(2, True, 4, 4.69),
    _deepspeed(3, False, 2, 4.95, 0.3),
    _deepspeed(3, True, 2, 4.45),
    _deepspeed(3, True, 8, 4.73),
    _deepspeed(2, True, 1, 1.81, **OFF),
    _deepspeed(3, True, 2, 2.05, **OFF),
    _deepspeed(3, True, 4, 2.06, **OFF, offload_parameters=True),
    Published(
        "OLMo 7B",
        "h100-sxm",
        64,
        OLMO_7B,
        4096,
        1024,
        _fsdp(2, compile=True),
        10000,
        "OLMo-core README (2024); GPUs and batch not printed beside it",
        0.2,
    ),
    # Theirs have tensor and pipeline parallelism; ours are the same models by ZeRO 3, at the same TFLOP/s of hardware.
    Published(
        "BLOOM", "a100-sxm-80gb", 384, BLOOM, 2048, 2304, _fsdp(2, True), 113, "Le Scao et al. 2022: 150 TFLOP/s", 0.35
    ),
    Published("OPT", "a100-sxm-80gb", 992, OPT, 2048, 992, _fsdp(1, True), 112, "Zhang et al. 2022: 147 TFLOP/s", 0.35),
    _playbook(8, 40149, 0.35),
    _playbook(32, 35367, 0.35),
    _playbook(256, 15700, 0.35),
]


def configuration(row: Published) -> Config:
    machine = yaml.safe_load((CONF / "machine" / f"{row.machine}.yaml").read_text())
    machine |= {"network_bandwidth": 50e9 if row.machine.startswith("h100") else 25e9} | row.other.get("machine", {})
    nodes = max(1, row.gpus // 8)
    launch = {"name": "slurm", "nodes": nodes, "processes": 8} if nodes > 1 else {"processes": row.gpus}
    return Config.model_validate(
        {
            "model": row.model,
            "data": {"sequence_length": row.length, "boundaries": False},
            "optim": {"batch_size": row.batch},
            "launch": launch,
            "engine": row.engine,
            "machine": machine,
            "kernels": row.other.get("kernels", {}),
        }
    )
