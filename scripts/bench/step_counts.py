"""What one training step asks of a device, counted from a trace in bf16 autocast without computing anything.

    scripts/bench/step_counts [--json] [--preset gpt2-124m ...] [--backend triton torch]

Of a layer (of each side, where there are two): casts of activations and of weights and their bytes, matrix products and
operators, all of a forward and a backward pass; a layer is what a model of three layers has beyond one of two. Of a
step: bytes that clipping and the optimizer's step move per parameter, and how often the engine waits for a number.
`triton` is what runs on a GPU, with fake tensors; `torch` what runs on a CPU. Operators that only view are not counted;
bytes are those of what an operator is given and of what its schema says that it changes (fused AdamW: gradients too).

docs/benchmarks/step-counts.json holds what is counted here beside the same at an earlier commit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # lets Triton's operators be traced without a GPU; none of them runs
ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder: it has modules of our packages' names

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from trainer.compose import compose  # noqa: E402
from trainer.config import Config  # noqa: E402
from trainer.models import build  # noqa: E402
from trainer.training.optimizers import make_optimizer  # noqa: E402
from trainer.training.step_counts import PRODUCTS, launched  # noqa: E402

OBJECTIVES = {"gpt2-124m": "causal", "llama-7b": "causal", "bert-base": "masked_lm", "t5-base": "span_corruption"}
OBJECTIVES |= {"xlnet-base": "permuted_lm"}
BACKENDS = {
    "triton": {"attention": "triton", "norm": "triton", "rotary": "triton", "gated": "triton"},
    "torch": {"attention": "sdpa", "norm": "torch", "rotary": "torch", "gated": "torch"},
}
ROWS, LENGTH = 2, 509  # a prime: what has a multiple of so many numbers is an activation


class Counted(TorchDispatchMode):
    """Operators that run inside, by kind, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = launched(func)
        if name is None:
            return made
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        self.counts["operators"] += 1
        self.counts["bytes"] += sum(map(_bytes, [*given, *_written(func, args, kwargs, made)]))
        self.counts["products"] += name in PRODUCTS
        self.counts["waits"] += name == "_local_scalar_dense"
        self.counts["masks"] += any(_is_mask(one) for one in tree_leaves(made))
        if name in ("_to_copy", "copy_"):
            self._cast(*((given[1], given[0]) if name == "copy_" else (given[0], made)))
        return made

    def _cast(self, read: Tensor, written: Tensor) -> None:
        if read.dtype == written.dtype or not (read.is_floating_point() and written.is_floating_point()):
            return
        kind = "weight" if read.numel() % LENGTH else "activation"
        self.counts[f"{kind}_casts"] += 1
        self.counts[f"{kind}_cast_bytes"] += _bytes(read) + _bytes(written)


def _is_mask(made: Any) -> bool:
    """Whether it says something of every pair of tokens."""
    return isinstance(made, Tensor) and made.dtype == torch.bool and made.shape[-2:] == (LENGTH, LENGTH)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _written(func: Any, args: Any, kwargs: Any, made: Any) -> list[Tensor]:
    """What an operator writes: its results, or the arguments that it changes."""
    told = [*zip(func._schema.arguments, args, strict=False)]
    told += [(one, (kwargs or {}).get(one.name)) for one in func._schema.arguments if one.name in (kwargs or {})]
    changed = [value for one, value in told if one.alias_info is not None and one.alias_info.is_write]
    return [one for one in tree_leaves(changed or made) if isinstance(one, Tensor)]


def configuration(preset: str, backend: str, depth: int) -> Config:
    words = [f"model={preset}", f"objective={OBJECTIVES[preset]}", f"model.depth={depth}", "engine.precision=bf16"]
    words += [f"kernels.{part}={name}" for part, name in BACKENDS[backend].items()]
    return compose([*words, f"data.sequence_length={LENGTH}", "model.dropout=0", "model.attention_dropout=0"])


def batch_of(config: Config) -> dict[str, Tensor]:
    tokens = torch.zeros(ROWS, LENGTH, dtype=torch.long)
    own = {"tokens": tokens, "segments": torch.zeros_like(tokens), "positions": torch.zeros_like(tokens)}
    batch = {**own, "targets": tokens}
    if config.model.family == "encoder_decoder":
        batch |= {f"source_{name}": value for name, value in own.items()}
    if config.two_streams:
        batch["order"] = torch.zeros_like(tokens)
    if config.model.sentence_head:
        batch["sentence_label"] = torch.zeros(ROWS, dtype=torch.long)
    return batch


def passes(preset: str, backend: str, depth: int) -> tuple[Counter[str], Counter[str], int]:
    """What a forward and backward pass asks for, what an update, and the number of parameters."""
    config = configuration(preset, backend, depth)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build(config).train()
        optimizer = make_optimizer(model, config.optim)
        with Counted() as forward_backward:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(**batch_of(config))[0]
            loss.backward()
        optimizer.step()  # makes its states
        with Counted() as update:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return forward_backward.counts, update.counts, sum(one.numel() for one in model.parameters())


def layer(preset: str, backend: str) -> dict[str, float]:
    """Counts of one layer, and of the update for each parameter."""
    (two, _, _), (three, update, numbers) = (passes(preset, backend, depth) for depth in (2, 3))
    tokens = ROWS * LENGTH
    of_layer = {name: three[name] - two[name] for name in three}
    return {
        "activation_casts": of_layer.get("activation_casts", 0),
        "activation_cast_bytes_per_token": of_layer.get("activation_cast_bytes", 0) / tokens,
        "weight_casts": of_layer.get("weight_casts", 0),
        "weight_cast_bytes": of_layer.get("weight_cast_bytes", 0),
        "products": of_layer["products"],
        "operators": of_layer["operators"],
        "masks": three["masks"],
        "update_bytes_per_parameter": update["bytes"] / numbers,
    }


def waits() -> int:
    """How often an engine's step waits for a number, with the default settings at ZeRO 0."""
    from trainer.training.distributed import join
    from trainer.training.engine import Engine

    config = compose(["model=llama-mini", "data.sequence_length=32", "engine.device=cpu", "optim.batch_size=2"])
    engine = Engine(config, join("cpu", 60.0))
    tokens = torch.zeros(2, 32, dtype=torch.long).numpy()
    batch = {name: tokens for name in ("tokens", "targets", "segments", "positions")}
    with Counted() as counted:
        engine.forward_backward([batch], 64.0)
        engine.gradient_norm()
        engine.update(1e-3)
    return counted.counts["waits"]


HEADINGS = {
    "activation_casts": "casts of activations",
    "activation_cast_bytes_per_token": "their bytes a token",
    "weight_casts": "casts of weights",
    "weight_cast_bytes": "their MB",
    "products": "products",
    "operators": "operators",
    "masks": "S x S masks a pass",
    "update_bytes_per_parameter": "update, bytes a parameter",
}


def table(now: dict[str, Any], before: dict[str, Any]) -> str:
    """A row for each model and backend; `before -> now`."""
    lines = ["| model | backend | " + " | ".join(HEADINGS.values()) + " |", "|---" * (len(HEADINGS) + 2) + "|"]
    for name in now:
        cells = []
        for key in HEADINGS:
            unit = 1e6 if key == "weight_cast_bytes" else 1
            told = [f"{one[name][key] / unit:,.6g}" for one in (before, now) if name in one]
            cells.append(" → ".join(told))
        lines.append("| " + " | ".join([*name.split(", "), *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=list(OBJECTIVES), choices=list(OBJECTIVES))
    parser.add_argument("--backend", nargs="+", default=list(BACKENDS), choices=list(BACKENDS))
    parser.add_argument("--json", action="store_true", help="the counts alone")
    options = parser.parse_args()
    asked = [(preset, backend) for preset in options.preset for backend in options.backend]
    layers = {f"{preset}, {backend}": layer(preset, backend) for preset, backend in asked}
    counted = {"layers": layers, "waits": waits()}
    if options.json:
        print(json.dumps(counted, indent=1))
        return
    stored = ROOT / "docs" / "benchmarks" / "step-counts.json"
    before = json.loads(stored.read_text())["before"] if stored.exists() else {"layers": {}, "waits": "not stated"}
    print(table(layers, before["layers"]))
    print(f"\nWaits of the engine for a number in a step: {before['waits']} → {counted['waits']}.")


if __name__ == "__main__":
    main()
    os._exit(0)  # the process group's threads outlive it otherwise
