"""Whether torch compiles the model: `engine.compile`, for the run as for its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trainer.config.division import data_ranks

if TYPE_CHECKING:
    from trainer.config import Config


class Compilation(NamedTuple):
    """Whether, and why so."""

    on: bool
    reason: str


def compilation(config: Config, device: str, no_triton: str | None = None) -> Compilation:
    """For a device of this type ("cuda", "cpu").

    true and false are taken as they are; auto compiles on a GPU what is known to compile there without a break. What
    cannot be compiled at all is refused with the configuration. no_triton: why Triton cannot run.
    """
    asked = config.engine.compile
    if asked != "auto":
        return Compilation(asked, "asked for")
    if device != "cuda":
        return Compilation(False, "no GPU")
    lacks = [
        (config.model.experts.count, "model.experts: how many tokens an expert reads changes with every step"),
        (config.debug.first_nonfinite, "debug.first_nonfinite: a compiled model has no modules to watch"),
        (config.engine.zero_stage == 3, "engine.zero_stage=3: weights are gathered between the modules"),
        (config.engine.sequence_parallel > 1, "engine.sequence_parallel: ranks exchange inside of attention"),
        (config.engine.feed_forward_tile, "engine.feed_forward_tile: a compiled model computes nothing tile by tile"),
        (config.task.kind, f"task.kind={config.task.kind}: only models that are pretrained were tried"),
        (no_triton, no_triton or ""),
    ]
    reason = next((why for lacking, why in lacks if lacking), None)
    return Compilation(reason is None, reason or "a GPU")


def varying(config: Config) -> tuple[int, ...]:
    """The dimensions of a batch, of (rows, positions), that are not the same in all steps of a run: compiled code takes
    any size of these, so that a curriculum of lengths or batches is compiled once."""
    shapes, engine, ranks = config.curriculum.shapes, config.engine, data_ranks(config)
    rows = {engine.micro_batch_of(-(-shape.batch_size // ranks)) for shape in shapes}
    lengths = {shape.sequence_length for shape in shapes}
    return tuple(at for at, sizes in enumerate((rows, lengths)) if len(sizes) > 1)
