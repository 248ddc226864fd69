"""What keys of a block and of its positions want of each other."""

from __future__ import annotations

from typing import Any

OF_YARN = {"rotary_beta_fast": 32.0, "rotary_beta_slow": 1.0, "rotary_attention_factor": None}  # and what is usual


def layer_misfits(model: Any) -> list[str]:
    """A line for each thing that is wrong among them. model: the group `model`."""
    return [*_block_misfits(model), *_rotary_misfits(model)]


def _block_misfits(model: Any) -> list[str]:
    wrong = []
    if model.shared_norm and not model.parallel:
        wrong.append("shared_norm: one norm serves two branches that stand side by side; needs model.parallel=true")
    if model.shared_norm and model.family == "encoder_decoder":
        wrong.append("shared_norm: not in an encoder-decoder, whose blocks have a third branch")
    if model.qkv_unbiased and (not model.bias or model.position == "relative"):
        why = "model.bias=false has none already" if not model.bias else "position=relative has biases of its own"
        wrong.append(f"qkv_unbiased: {why}; leave it false")
    if model.global_last and model.window is not None and model.global_every == 1:
        wrong.append("global_last: the last of how many layers? state model.global_every, 2 or more")
    return wrong


def _rotary_misfits(model: Any) -> list[str]:
    given = [name for name, usual in OF_YARN.items() if getattr(model, name) != usual]
    if given and model.rotary_scaling != "yarn":
        return [f"{given[0]}: rotary_scaling={model.rotary_scaling} does not read it; yarn does"]
    if model.rotary_beta_fast <= model.rotary_beta_slow:
        return [
            f"rotary_beta_fast: {model.rotary_beta_fast:g} must be more than rotary_beta_slow "
            f"{model.rotary_beta_slow:g}"
        ]
    return []
