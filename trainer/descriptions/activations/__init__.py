"""The nonlinearities of the feed-forward and of the heads."""

from __future__ import annotations

from typing import ClassVar

from trainer.descriptions.registry import Description, Registry


class ActivationDescription(Description):
    """Its implementation is called with the `ModelConfig`, and returns a function of a tensor to one of the same shape
    and dtype, element by element and without parameters. The books count no FLOPs for it, as for all that is no matrix
    product; `model.gated` multiplies its result by a second projection."""

    saved: ClassVar[int] = 1  # tensors of its input's size that its backward pass needs beside its result
    # "module:attribute" of a kernel `(gate, up, backend=...)` for activation(gate) * up; null: computed in two steps.
    gated: ClassVar[str | None] = None


ACTIVATIONS: Registry[ActivationDescription] = Registry(
    "activation", "trainer.descriptions.activations", ActivationDescription, chosen_by="model.activation"
)
