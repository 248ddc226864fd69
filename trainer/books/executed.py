"""What of the full square of scores a fused attention computes: tiles that causality or a window hides are skipped."""

from __future__ import annotations

from trainer.books import kernels
from trainer.books.lengths import lengths
from trainer.config import Config


def executed(config: Config) -> float:
    """Share of the square of a model's own attention, on average over its layers; 1 where nothing is skipped.

    Triton's kernels skip both; SDPA's skip what causality alone hides, and nothing where they read a mask.
    """
    model = config.backbone
    side = model.decoder_side if model.family == "encoder_decoder" else model
    decodes = model.family != "encoder"
    source, target = lengths(config)
    length = target or source
    local = [side.local(layer) for layer in range(side.depth)]
    shares = {one: _of_use(config, kernels.Use(side, decodes, one), length) for one in set(local)}
    return sum(shares[one] for one in local) / len(local)


def _of_use(config: Config, use: kernels.Use, length: int) -> float:
    fields, backend = kernels.attention_fields(config, use), kernels.attention(config, use)
    causal = 0.5 if "causal" in fields else 1.0
    if backend == "sdpa":
        return 1.0 if kernels.masked(config, use) else causal
    window = use.model.window
    if backend != "triton" or not use.local or window is None:
        return causal if backend == "triton" else 1.0
    return min(causal, causal * 2 * window / length)
