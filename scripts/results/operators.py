"""Operators that a step launches, counted by PyTorch's dispatcher on fake tensors, by kind of model.

    scripts/results/operators [--out trainer/books/operators.json] [preset ...]

Of a forward and a backward pass in bf16 autocast with the kernels of a GPU: of one layer (of each side, where there are
two), and of what is around the layers with a plain loss. Views launch nothing and are not counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)
spec = importlib.util.spec_from_file_location("step_counts", ROOT / "scripts" / "bench" / "step_counts.py")
assert spec is not None and spec.loader is not None
step_counts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(step_counts)

import torch  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from trainer.books.launch_floor import TABLE, traits  # noqa: E402
from trainer.compose import compose  # noqa: E402
from trainer.config import Config  # noqa: E402
from trainer.models import build  # noqa: E402
from trainer.utils.files import write_atomic  # noqa: E402

PRESETS = {
    "gpt2-124m": "causal",
    "llama-7b": "causal",
    "llama-mini": "causal",
    "pythia-70m": "causal",
    "bloom-560m": "causal",
    "olmo-1b": "causal",
    "command-r-35b": "causal",
    "opt-125m": "causal",
    "olmo2-1b": "causal",
    "qwen3-0.6b": "causal",
    "gpt-neo-125m": "causal",
    "bert-base": "masked_lm",
    "roberta-base": "masked_lm",
    "modernbert-base": "masked_lm",
    "deberta-v3-base": "replaced_token",
    "electra-base": "replaced_token",
    "xlnet-base": "permuted_lm",
    "t5-base": "span_corruption",
    "t5v1.1-base": "span_corruption",
    "bart-base": "bart",
}
MADE_BY = "scripts/results/operators"
KERNELS = {"attention": "triton", "norm": "triton", "rotary": "triton", "gated": "triton", "loss": "torch"}


def configuration(preset: str, depth: int, kernels: dict[str, str] = KERNELS) -> Config:
    words = [f"model={preset}", f"objective={PRESETS[preset]}", f"model.depth={depth}", "engine.precision=bf16"]
    words += [f"kernels.{part}={name}" for part, name in kernels.items()]
    words += ["data.sequence_length=128", "model.dropout=0", "model.attention_dropout=0", "model.width=128"]
    return compose([*words, "model.heads=4", "model.kv_heads=null", "model.head_size=null", "model.ffn_width=null"])


def operators(config: Config) -> int:
    """Of one forward and backward pass."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build(config).train()
        with step_counts.Counted() as counted:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(**step_counts.batch_of(config))[0]
            loss.backward()
    return int(counted.counts["operators"])


def counts(preset: str) -> dict[str, Any]:
    """{layer, around} of a preset's kind: a layer is what a model of three has beyond one of two."""
    two, three = (operators(configuration(preset, depth)) for depth in (2, 3))
    return {"traits": traits(configuration(preset, 2)), "layer": three - two, "around": two - 2 * (three - two)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--out", type=Path, help=f"write the table, e.g. {TABLE.relative_to(ROOT)}")
    parser.add_argument("--json", action="store_true", help="print the counts alone")
    options = parser.parse_args()
    found = {}
    for preset in options.presets:
        found[preset] = counts(preset)
        if not options.json:
            print(f"{preset:<18} layer {found[preset]['layer']:>4}  around {found[preset]['around']:>4}", flush=True)
    if options.json:
        print(json.dumps(found, indent=1), flush=True)
    if options.out:
        write_atomic(options.out, json.dumps({"made_by": MADE_BY, "kinds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
    os._exit(0)
