"""Keys that several kinds of tasks read."""

from __future__ import annotations

from typing import Literal

from trainer.descriptions.tasks import TaskDescription
from trainer.utils.schema import key


class Smoothed(TaskDescription.Keys):
    """Of losses over classes or tokens."""

    label_smoothing: float = key(0.0, "share of the target that is spread over all tokens or classes", ge=0, lt=1)


class Pooled(TaskDescription.Keys):
    """Of heads that read one vector a row."""

    dense_activation: Literal["tanh", "relu"] = key(
        "tanh",
        "activation of the layer that encoders and encoder-decoders have before the last matrix (DistilBERT: relu)",
        introduced="tanh",
    )


class Prompted(TaskDescription.Keys):
    """Of answers that follow a prompt."""

    chat: bool = key(
        True, "a prompt ends with <sep>, as the exported chat template writes it; false: the answer goes on"
    )
