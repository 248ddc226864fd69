"""The rates of a model's dropout, of which a paper may state what a run does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trainer.utils.errors import nearest

PAPER = "paper"
DROPOUT = ("dropout", "attention_dropout", "dropout_inside", "paper_dropout", "paper_attention_dropout")  # keys of it


def _rate(value: Any) -> Any:
    """A share that is dropped. Raises ValueError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != PAPER and not (number and 0 <= value < 1):
        near = nearest(value, [PAPER]) if isinstance(value, str) else ""
        raise ValueError(f"{value!r} given, a number from 0 to below 1, or {PAPER}, wanted{near}")
    return value


Rate = Annotated[
    float | Literal["paper"],
    BeforeValidator(_rate, json_schema_input_type=Annotated[float, Field(ge=0, lt=1)] | Literal["paper"]),
]


class DropoutRates:
    """What the keys of dropout come to, for the group that has them."""

    if TYPE_CHECKING:
        dropout: Rate
        attention_dropout: Rate
        paper_dropout: float | None
        paper_attention_dropout: float | None

    @property
    def hidden_rate(self) -> float:
        """Of the hidden states that are dropped; `paper` is what the paper states, and 0 where it states nothing."""
        return (self.paper_dropout or 0.0) if self.dropout == PAPER else float(self.dropout)

    @property
    def attention_rate(self) -> float:
        """Of the attention probabilities that are dropped, likewise."""
        return (
            (self.paper_attention_dropout or 0.0) if self.attention_dropout == PAPER else float(self.attention_dropout)
        )

    @property
    def drops(self) -> bool:
        """Whether anything is dropped in training."""
        return self.hidden_rate > 0 or self.attention_rate > 0

    @property
    def stated_rates(self) -> tuple[float | None, float | None]:
        """Of hidden states and of attention probabilities what the run drops or, where it drops nothing, the paper."""
        if self.drops:
            return self.hidden_rate, self.attention_rate
        return self.paper_dropout, self.paper_attention_dropout
