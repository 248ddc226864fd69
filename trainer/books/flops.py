"""Floating-point operations of a whole run: those of its steps, at every shape that they have."""

from __future__ import annotations

from dataclasses import replace

from trainer.books.run_length import known_steps
from trainer.books.step_flops import AttentionBackward, FlopAccount, step_flops
from trainer.config import Config


def flops(config: Config, attention_backward: AttentionBackward = "composed") -> FlopAccount:
    """Count the operations of training `config`.

    `attention_backward="fused"` books the scores that a fused kernel recomputes; it does not change the model FLOPs.
    """
    run = [
        (steps, step_flops(config.at_shape(shape), attention_backward))
        for shape, steps in config.curriculum.steps_by_shape(0, known_steps(config) or 0).items()
    ]
    return replace(
        step_flops(config, attention_backward),
        total=sum(steps * one.per_step for steps, one in run),
        hardware_total=sum(steps * one.hardware_per_step for steps, one in run),
        six_nd=sum(steps * one.six_n_step for steps, one in run),
    )
