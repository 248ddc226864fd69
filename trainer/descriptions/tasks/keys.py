"""Keys that several kinds of tasks read."""

from __future__ import annotations

from trainer.descriptions.tasks import TaskDescription
from trainer.utils.schema import Count, key


class Smoothed(TaskDescription.Keys):
    """Of losses over classes or tokens."""

    label_smoothing: float = key(0.0, "share of the target that is spread over all tokens or classes", ge=0, lt=1)


class Prompted(TaskDescription.Keys):
    """Of answers that follow a prompt."""

    chat: bool = key(
        True, "a prompt ends with <sep>, as the exported chat template writes it; false: the answer goes on"
    )


class Answered(TaskDescription.Keys):
    """Of answers that an encoder-decoder's decoder reads."""

    answer_length: Count = key(
        64, "most tokens of an answer (kind=text or preference; an encoder-decoder's target)", "tokens", ge=2
    )


class Templated(TaskDescription.Keys):
    """Of prompts that templates make of records."""

    templates: str | None = key(
        None, "datasets with prompt templates, one drawn for every record and epoch: a shipped set, or a YAML file"
    )
