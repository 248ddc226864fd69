"""How many tokens the two sides of a model read per sample: data.sequence_length, and what an objective makes of it."""

from __future__ import annotations

from typing import NamedTuple

from trainer.config import Config

MASS_BLOCK = 64  # tokens that one of MASS's fragments is cut out of
# UL2's denoisers as (rate, mean span, mode token): Tay et al. 2022, table 1.
UL2 = (
    (0.15, 3, True),
    (0.15, 8, True),
    (0.5, 3, True),
    (0.5, 8, True),
    (0.15, 64, True),
    (0.5, 64, True),
    (0.25, None, True),
)


class Lengths(NamedTuple):
    """Tokens per sample. `target` is 0 where there is no second stack."""

    source: int
    target: int = 0


def lengths(config: Config) -> Lengths:
    """Widths of the tensors that a model is given; padding is counted, for it is computed."""
    width, objective = config.data.sequence_length, config.objective
    if config.model.family != "encoder_decoder":
        return Lengths(width)
    if (task := config.task.description) is not None:
        return Lengths(width, task.target_length(config.task, width))
    if objective.name == "span_corruption":
        return Lengths(width, _spans(width, ((objective.rate, objective.mean_span, False),)))
    if objective.name == "ul2":
        return Lengths(width, _spans(width, UL2))
    if objective.name == "mass":
        text = width - 2
        blocks = (min(MASS_BLOCK, text - begin) for begin in range(0, text, MASS_BLOCK))
        return Lengths(width, sum(max(1, int(block * objective.rate)) for block in blocks))
    return Lengths(width, width)


def _spans(width: int, denoisers: tuple[tuple[float, float | None, bool], ...]) -> int:
    """Target tokens when the text is as long as fills the encoder (Raffel et al. 2020, section 3.1.4)."""

    def counts(length: int, rate: float, span: float | None) -> tuple[int, int]:
        noise = min(max(round(length * rate), 1), length - 1)
        if noise < 1:
            return 0, 0
        return (noise, 1) if span is None else (noise, min(max(round(noise / span), 1), noise, length - noise))

    def fits(length: int) -> bool:
        each = ((*counts(length, rate, span), mode) for rate, span, mode in denoisers)
        return max(length - noise + spans + 1 + mode for noise, spans, mode in each) <= width

    length = width
    while fits(length + 1):
        length += 1
    while length > 1 and not fits(length):
        length -= 1
    return max(sum(counts(length, rate, span)) for rate, span, _ in denoisers) + 1
