"""How the next token is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from trainer.utils.errors import UserError, nearest

LONGEST_NUMBER = 18  # characters: Python converts more than 4,300 digits to no number, and more than 308 to no float
MOST = {"tokens": 1_000_000, "beams": 1_000}  # beyond them no host ends
LEAST: dict[str, float] = {"tokens": 1, "beams": 1, "top_k": 0, "temperature": 0, "seed": 0}


@dataclass(frozen=True)
class Decoding:
    """A way to choose tokens; None is: not asked for.

    Without beams a token is drawn at `temperature` (0: always the likeliest) among the `top_k` likeliest of which the
    likeliest together have the probability `top_p` (Holtzman et al. 2020, section 3.1). With `beams` the likeliest
    sequences are searched, their log-probability divided by length ** length_penalty (Wu et al. 2016, equation 14, of
    which this is the simple form).
    """

    tokens: int = 200  # at most
    temperature: float | None = None  # default 0.8
    top_k: int | None = None  # default 50; 0: all
    top_p: float | None = None
    repetition_penalty: float = 1.0  # of tokens that were there before (Keskar et al. 2019, section 4.1)
    beams: int = 1
    length_penalty: float | None = None  # default 1
    seed: int = 0

    @classmethod
    def parse(cls, verb: str, options: dict[str, str]) -> Decoding:
        """From `name=value` words. Raises UserError naming every wrong one, and every contradiction."""
        values: dict[str, Any] = {}
        wrong = []
        kinds = {field.name: int if "int" in str(field.type) else float for field in fields(cls)}
        for name, text in options.items():
            try:
                if len(text) > LONGEST_NUMBER:
                    raise ValueError
                values[name] = kinds[name](text)
            except ValueError:
                whole = "whole " if kinds[name] is int else ""
                wrong.append(f"{verb}: {name}: {text!r} given, a {whole}number wanted")
        decoding = cls(**values)
        wrong += decoding._misfits(verb)
        if wrong:
            raise UserError("\n".join(wrong))
        return decoding

    @classmethod
    def of(cls, verb: str, **values: Any) -> Decoding:
        """From values. Raises UserError naming every wrong one, and every contradiction."""
        known = [field.name for field in fields(cls)]
        wrong = [f"{verb}: {name}: no such option{nearest(name, known)}" for name in values if name not in known]
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                wrong.append(f"{verb}: {name}: {value!r} given, a number wanted")
        wrong = wrong or cls(**values)._misfits(verb)
        if wrong:
            raise UserError("\n".join(wrong))
        return cls(**values)

    def _misfits(self, verb: str) -> list[str]:
        return [f"{verb}: {line}" for line in self._out_of_range() + self._contradictions()]

    def _out_of_range(self) -> list[str]:
        lines = []
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                lines.append(f"{name}: {value:g} given, {least:g} or more wanted")
            elif value is not None and value > MOST.get(name, math.inf):
                lines.append(f"{name}: {value:g} given, {MOST[name]:g} at most wanted")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            lines.append(f"top_p: {self.top_p:g} given, more than 0 and at most 1 wanted")
        if not 0 < self.repetition_penalty < float("inf"):
            lines.append(f"repetition_penalty: {self.repetition_penalty:g} given, more than 0 wanted (1: none)")
        return lines

    def _contradictions(self) -> list[str]:
        drawn = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p")}
        given = [f"{name}={value:g}" for name, value in drawn.items() if value is not None]
        lines = []
        if self.beams > 1 and given:
            lines.append(
                f"beams={self.beams} and {given[0]} contradict: beams search for the likeliest, and draw nothing"
            )
        if self.beams == 1 and self.length_penalty is not None:
            lines.append(f"length_penalty={self.length_penalty:g}: only beams are compared by length; add beams=4")
        if self.temperature == 0 and len(given) > 1:
            lines.append(f"temperature=0 and {given[1]} contradict: at temperature 0 nothing is drawn")
        return lines

    def choose(self, logits: Tensor, before: Tensor, generator: torch.Generator) -> Tensor:
        """One token for each row of logits [B, V]; before [B, n]: the tokens so far. Draws from `generator`."""
        logits = self.penalised(logits, before)
        temperature = 0.8 if self.temperature is None else self.temperature
        if temperature == 0:
            return logits.argmax(dim=-1)
        return torch.multinomial(self.filtered(logits / temperature).softmax(dim=-1), 1, generator=generator)[:, 0]

    def penalised(self, scores: Tensor, before: Tensor) -> Tensor:
        """Scores [B, V] with those of earlier tokens divided, or where negative multiplied, by the penalty."""
        if self.repetition_penalty == 1:
            return scores
        earlier = scores.gather(1, before)
        penalty = self.repetition_penalty
        return scores.scatter(1, before, torch.where(earlier < 0, earlier * penalty, earlier / penalty))

    def filtered(self, logits: Tensor) -> Tensor:
        """Logits [B, V], -inf where top_k and then top_p cut."""
        top_k = 50 if self.top_k is None else self.top_k
        if top_k:
            weakest = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < weakest, float("-inf"))
        if self.top_p is not None and self.top_p < 1:
            ordered, places = logits.sort(descending=True)
            share = ordered.softmax(dim=-1)
            beyond = share.cumsum(dim=-1) - share >= self.top_p  # the likelier ones have enough without it
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, places, beyond), float("-inf"))
        return logits


GREEDY = Decoding(temperature=0)


def split_options(verb: str, words: list[str], others: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """(options of decoding, the verb's other options). Raises UserError for unknown names, with the nearest one."""
    options = dict(word.split("=", 1) for word in words)
    own = {field.name for field in fields(Decoding)}
    known = [*others, *(field.name for field in fields(Decoding))]
    wrong = [name for name in options if name not in known]
    if wrong:
        raise UserError(
            "\n".join(
                f"{verb}: {name}: no such option{nearest(name, known)}; there is {', '.join(known)}" for name in wrong
            )
        )
    return {n: v for n, v in options.items() if n in own}, {n: v for n, v in options.items() if n not in own}
