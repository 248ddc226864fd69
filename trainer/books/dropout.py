"""What a plan says of dropout. It costs no FLOPs by the rules of the books, which count matrix products."""

from __future__ import annotations

from trainer.config import Config
from trainer.config.dropout_rates import PAPER


def dropout_line(config: Config) -> str | None:
    """The rates, and who stated them; for a run without dropout that its paper has some, else nothing."""
    model = config.model
    asked, stated = (model.dropout, model.attention_dropout), (model.paper_dropout, model.paper_attention_dropout)
    if model.drops:
        rates = f"dropout {model.hidden_rate:g}, of attention {model.attention_rate:g}"
        return f"{rates} (the paper's)" if asked == (PAPER, PAPER) and None not in stated else rates
    if PAPER in asked:
        if any(rate is not None for rate in stated):
            return "dropout 0, as in the paper"
        return f"dropout 0: model={model.name} states none of a paper; model.dropout=0.1 sets one"
    if any(stated):
        hidden, attention = (rate or 0.0 for rate in stated)
        ways = "model.dropout=paper and model.attention_dropout=paper"
        return f"dropout 0, by choice: {ways} would be {hidden:g} and {attention:g}"
    return None
