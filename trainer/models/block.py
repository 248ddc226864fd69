"""The block: attention and feed-forward around the residual stream. A model is what its paper says."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.models.attention import Attention, Context, CrossAttention, RelativeAttention
from trainer.models.disentangled import DisentangledAttention
from trainer.models.experts import Experts
from trainer.models.initialization import initial_stds
from trainer.models.norms import norm
from trainer.models.parts import FeedForward

Branch = Callable[[Tensor], Tensor]
Step = tuple[nn.Module, Branch]  # a norm and a branch of the residual stream
Stream = tuple[Tensor, Tensor | None]  # the residual stream, and what is still to be added to it
BY_POSITION: dict[str, type[Attention]] = {"relative": RelativeAttention, "disentangled": DisentangledAttention}


class Block(nn.Module):
    """Attention, cross-attention in the decoder of an encoder-decoder, feed-forward; each in a residual step."""

    def __init__(self, config: ModelConfig, layer: int = 0, *, cross: bool = False) -> None:
        super().__init__()
        self.order, self.parallel, self.factor = config.norm_position, config.parallel, config.branch_factor
        std, local = initial_stds(config), config.local(layer)
        normed = layer > 0 or config.first_norm
        first = self.order in ("pre", "sandwich")  # norms that products alone read, which an expert's router is not
        low = first and not (config.experts.at(layer) and config.shared_norm)
        self.attention_norm = norm(config, low=low) if normed else nn.Identity()
        kind = BY_POSITION.get(config.position, Attention)
        self.attention = kind(config, std, local=local, turns=config.turns(layer))
        if cross:
            self.cross_norm = norm(config, low=first)
            self.cross_attention = CrossAttention(config, std, turns=False)
        self.cross = cross
        low = first and not config.experts.at(layer)
        self.feed_forward_norm = None if config.shared_norm else norm(config, low=low)
        self.feed_forward = Experts(config, std) if config.experts.at(layer) else FeedForward(config, std)
        if self.order == "sandwich":
            for branch in ("attention", *(["cross"] if cross else []), "feed_forward"):
                setattr(self, f"{branch}_post_norm", norm(config))

    feed_forward_norm: nn.Module | None  # none where the branches share one
    attention_post_norm: nn.Module
    cross_post_norm: nn.Module
    feed_forward_post_norm: nn.Module

    def forward(
        self, x: Tensor, context: Context, keys_from: Tensor | None = None, added: Tensor | None = None
    ) -> Stream:
        """x [B, S, width], to which what an earlier block `added` is still to be added, and so what is returned.
        `keys_from` [B, Sk, width]: another stream to take keys and values from, in place of x."""
        if keys_from is not None and self.order in ("pre", "sandwich"):
            keys_from = self.attention_norm(keys_from)
        if self.parallel:  # Black et al. 2022, section 2.1
            normal, x = normalised(self.attention_norm, x, added)
            mixed = times(self.attention(normal, context, keys_from), self.factor)
            fed = self._fed(normal if self.feed_forward_norm is None else self.feed_forward_norm(x), context)
            return x + mixed, times(fed, self.factor)
        assert self.feed_forward_norm is not None
        steps: list[Step] = [(self.attention_norm, lambda y: self.attention(y, context, keys_from))]
        if self.cross:
            steps.append((self.cross_norm, lambda y: self.cross_attention(y, context)))
        steps.append((self.feed_forward_norm, lambda y: self._fed(y, context)))
        if self.order == "sandwich":
            after = [self.attention_post_norm, *([self.cross_post_norm] if self.cross else [])]
            return sandwich_norm(x, added, steps, [*after, self.feed_forward_post_norm], self.factor)
        if self.order == "pre":
            return pre_norm(x, added, steps, self.factor)
        return RESIDUAL[self.order](summed(x, added), steps, self.factor), None

    def _fed(self, x: Tensor, context: Context) -> Tensor:
        layer = self.feed_forward
        return layer(x, context) if isinstance(layer, Experts) else layer(x, context.dropout)


# --- the residual stream; normalise(x, added) gives norm(x + added) and x + added, in one kernel: so where a norm
# comes first, a block leaves its last addition to the norm of the next. What is added is multiplied by `factor`, which
# is not 1 in models that CompleteP makes deeper ---


def summed(x: Tensor, added: Tensor | None) -> Tensor:
    return x if added is None else x + added


def normalised(normalise: nn.Module, x: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
    """norm(x + added) and x + added."""
    if added is None or isinstance(normalise, nn.Identity):
        total = summed(x, added)
        return normalise(total), total
    normal, total = normalise(x, added)
    return normal, total


def times(added: Tensor, factor: float) -> Tensor:
    return added if factor == 1 else added * factor


def pre_norm(x: Tensor, added: Tensor | None, steps: list[Step], factor: float) -> Stream:
    """x + branch(norm(x)), step by step (Xiong et al. 2020, figure 1b)."""
    for normalise, branch in steps:
        normal, x = normalised(normalise, x, added)
        added = times(branch(normal), factor)
    return x, added


def post_norm(x: Tensor, steps: list[Step], factor: float) -> Tensor:
    """norm(x + branch(x)), step by step (Vaswani et al. 2017, section 3.1)."""
    for normalise, branch in steps:
        x, _ = normalise(x, times(branch(x), factor))
    return x


def reordered_norm(x: Tensor, steps: list[Step], factor: float) -> Tensor:
    """x + norm(branch(x)), step by step (OLMo 2, Walsh et al. 2025, section 3.3)."""
    for normalise, branch in steps:
        x = x + times(normalise(branch(x)), factor)
    return x


def sandwich_norm(x: Tensor, added: Tensor | None, steps: list[Step], after: list[nn.Module], factor: float) -> Stream:
    """x + after(branch(norm(x))), step by step (Ding et al. 2021, section 2.2; Gemma 2, 2024, section 2)."""

    def closed(branch: Branch, last: nn.Module) -> Branch:
        return lambda y: last(branch(y))

    closing = [(first, closed(branch, last)) for (first, branch), last in zip(steps, after, strict=True)]
    return pre_norm(x, added, closing, factor)


RESIDUAL = {"post": post_norm, "reordered": reordered_norm}
