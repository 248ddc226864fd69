"""How many tokens change an expert between two runs of one model: in other layouts, precision, on other devices.

    scripts/results/expert_choices RUN OTHER [--samples 16]

Both runs' newest weights route the same samples, the first of RUN's training. Every layer is a line: the choices (token
and expert) that are in RUN's and not in OTHER's, of all, and the tokens that they belong to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.generation.loaded_model import load_model, writer_of
from trainer.models.experts import Experts, choose
from trainer.training.dataset import examples, prepare
from trainer.utils.errors import UserError


@torch.no_grad()
def choices(run: Path, batch: dict[str, Tensor]) -> list[Tensor]:
    """The experts of every token, int64 [tokens, k] in rising order, layer by layer; padding is left out."""
    model = writer_of(load_model(run)[0])
    layers = [module for module in model.modules() if isinstance(module, Experts)]
    found: list[Tensor] = []
    for layer in layers:

        def note(module: torch.nn.Module, given: tuple[Tensor, ...], logits: Tensor, layer: Experts = layer) -> None:
            chosen = choose(logits, layer.config, layer.balance_bias if layer.config.by_bias else None).experts
            found.append(chosen.sort(dim=-1).values.cpu())

        layer.router.register_forward_hook(note)
    if not layers:
        raise UserError(f"{run}: its model has no experts")
    device = next(model.parameters()).device
    model(**{name: value.to(device) for name, value in batch.items()})
    real = [batch[name].flatten() >= 0 for name in ("source_segments", "segments") if name in batch]
    sides = [one for one in real for _ in range(len(layers) // len(real))]
    return [one[side] for one, side in zip(found, sides, strict=True)]


def changed(ours: Tensor, theirs: Tensor) -> tuple[int, int]:
    """(choices that are in the one alone, tokens that have such) of experts [tokens, k]."""
    missing = ~(ours[:, :, None] == theirs[:, None]).any(-1)
    return int(missing.sum()), int(missing.any(-1).sum())


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN")
    parser.add_argument("--samples", type=int, default=16)
    given = parser.parse_args(words)
    config = load_model(given.runs[0])[1]
    drawn = examples(prepare(config), config, "train").batch(0, given.samples)
    batch = {name: torch.from_numpy(array) for name, array in drawn.items()}
    ours, theirs = (choices(run, batch) for run in given.runs)
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        raise UserError(
            f"{given.runs[1]}: it has other layers of experts, or other experts a token, than {given.runs[0]}"
        )
    total = torch.zeros(3, dtype=torch.int64)
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        pairs, tokens = changed(one, other)
        total += torch.tensor([pairs, one.numel(), tokens])
        print(f"layer of experts {number}: {pairs:,} of {one.numel():,} choices differ, of {tokens:,} tokens")
    print(f"all layers: {total[0]:,} of {total[1]:,} choices differ, of {total[2]:,} tokens")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"expert_choices: {error}")
