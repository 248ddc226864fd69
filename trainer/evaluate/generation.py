"""Text from a trained decoder, one token after the other."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.data import Tokenizer
from trainer.errors import UserError, nearest
from trainer.evaluate.model import load_model
from trainer.folder import RunFolder


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    prompt: str = "def "
    tokens: int = 200  # at most
    temperature: float = 0.8  # 0: always the most likely token
    top_k: int = 50  # 0: all tokens
    seed: int = 0

    @classmethod
    def parse(cls, options: list[str]) -> Sampling:
        """From `name=value` words. Raises UserError naming every wrong one."""
        kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}
        values, wrong = {}, []
        for option in options:
            name, _, text = option.partition("=")
            if name not in kinds:
                wrong.append(f"generate: {name}: no such option{nearest(name, kinds)}; there is {', '.join(kinds)}")
                continue
            try:
                values[name] = kinds[name](text)
            except ValueError:
                wrong.append(f"generate: {name}: {text!r} given, a {'whole ' * (kinds[name] is int)}number wanted")
                continue
            if name != "prompt" and values[name] < (1 if name == "tokens" else 0):
                wrong.append(
                    f"generate: {name}: {text} given, {'at least 1' if name == 'tokens' else '0 or more'} wanted"
                )
        if wrong:
            raise UserError("\n".join(wrong))
        return cls(**values)


def continue_text(run: Path, options: list[str]) -> dict[str, Any]:
    """Continue a prompt with the newest intact checkpoint; stops at the end of a document."""
    sampling = Sampling.parse(options)
    family = RunFolder(run).load_config().model.family
    if family != "decoder":
        raise UserError(f"generate: {run.name} is an {family.replace('_', '-')}; continuing a text needs a decoder")
    model, config, step = load_model(run)
    tokenizer = Tokenizer(RunFolder(run).tokenizer)
    bos, eos = tokenizer.specials["<s>"], tokenizer.specials["</s>"]
    ids = [bos, *tokenizer.encode(sampling.prompt)]
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(sampling.seed)
    start = len(ids)
    while len(ids) - start < sampling.tokens:
        window = torch.tensor([ids[-config.max_length :]], device=device)
        token = _choose(_next_logits(model, window, tokenizer.vocabulary), sampling, generator)
        if token == eos:
            break
        ids.append(token)
    text = tokenizer.decode(ids[1:])
    return {
        "run": str(run),
        "step": step,
        "prompt": sampling.prompt,
        "text": text[len(sampling.prompt) :],
        "tokens": len(ids) - start,
    }


@torch.no_grad()
def _next_logits(model: Any, window: Tensor, vocabulary: int) -> Tensor:
    return model.logits(window)[0, -1, :vocabulary].float()


def _choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = logits / sampling.temperature
    if sampling.top_k:
        weakest = logits.topk(min(sampling.top_k, logits.numel())).values[-1]
        logits = logits.masked_fill(logits < weakest, float("-inf"))
    return int(torch.multinomial(logits.softmax(-1), 1, generator=generator))
