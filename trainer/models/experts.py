"""A mixture of experts in place of a feed-forward: a router sends every token to a few of many.

Shazeer et al. 2017; GShard (Lepikhin et al. 2021); Switch (Fedus et al. 2022: one expert a token, capacity, the loss of
loads); ST-MoE (Zoph et al. 2022: the z loss); Mixtral (Jiang et al. 2024); DeepSeek-MoE (Dai et al. 2024: fine-grained
and shared experts); DeepSeek-V3 (2024: sigmoid scores, a bias that evens loads, groups of experts).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.experts import grouped_linear
from trainer.config.experts import ExpertsConfig
from trainer.config.model import ModelConfig
from trainer.descriptions.optimizers import Role
from trainer.models.activations import activation, gated_product
from trainer.models.attention import Context
from trainer.models.dropout import Dropout, dropped
from trainer.models.expert_ranks import Abroad, Trip, building, packed, trip, unpacked
from trainer.models.initialization import InitialStds, initial_stds
from trainer.models.parts import FeedForward, Linear
from trainer.models.products import computing_dtype
from trainer.models.routing import Routed

BEST_OF_GROUP = 2  # experts by whose scores a group of experts is chosen (DeepSeek-V3, section 2.1.2)
SMALL = 1e-20  # added to the sum of a token's weights


class Router(Linear):
    """Logits over the experts, in fp32 or better whatever autocast says: in bf16 near experts change places."""

    role: Role = "head"
    in_fp32 = True  # its weight is read as it is

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] of x [..., width]."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return F.linear(wide, self.weight.to(wide.dtype))


class Choice(NamedTuple):
    """The experts of every token."""

    experts: Tensor  # int64 [T, k]
    weights: Tensor  # [T, k], what their outputs are multiplied by
    scores: Tensor  # [T, E], which add up to 1


class Order(NamedTuple):
    """Pairs of token and expert, T x k of them, in the order in which they are computed: by expert."""

    pairs: Tensor  # int64 [R]
    ends: Tensor  # int32 [E], where each expert's end
    kept: Tensor | None  # bool [T x k], whether each is computed for its own sake; None: all


class Experts(nn.Module):
    """sum_i w_i expert_i(x) over the experts i that x chooses, plus the shared experts."""

    backend = "auto"  # of the gated product
    product_backend = "auto"  # of the grouped products

    def __init__(self, config: ModelConfig, std: InitialStds) -> None:
        super().__init__()
        experts, width, hidden = config.experts, config.width, config.expert_channels
        own = initial_stds(config.model_copy(update={"ffn_width": hidden}))
        self.config, self.activation, self.gated = experts, activation(config), gated_product(config)
        self.router = Router(width, experts.count, bias=False, std=std.other)
        self.ranks = building()  # those that share the experts
        here = experts.count // (self.ranks.size if self.ranks else 1)
        self.gate = nn.Parameter(torch.empty(here, hidden, width)) if config.gated else None
        self.up = nn.Parameter(torch.empty(here, hidden, width))
        self.down = nn.Parameter(torch.empty(here, width, hidden))
        for parameter in (self.gate, self.up, self.down):
            if self.ranks is not None and parameter is not None:
                self.ranks.share(parameter)
        self.stds = {"gate": own.up, "up": own.up, "down": own.down}
        self.roles: dict[str, Role] = dict.fromkeys(self.stds, "matrix")
        self.shared = self.shared_gate = None
        if experts.shared:
            whole = config.model_copy(update={"ffn_width": experts.shared * hidden, "bias": False})
            self.shared = FeedForward(whole, initial_stds(whole))
        if experts.shared_gate:
            self.shared_gate = Router(width, 1, bias=False, std=std.other)
        if experts.by_bias:
            self.register_buffer("balance_bias", torch.zeros(experts.count, dtype=torch.float32))
        self.dropout_inside = config.dropout_inside

    balance_bias: Tensor
    shared: FeedForward | None
    shared_gate: Router | None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x [B, S, width]; in training an expert takes no more tokens of a group than its capacity."""
        experts, tokens = self.config, x.flatten(0, -2)
        logits = self.router(tokens)
        choice = choose(logits, experts, self.balance_bias if experts.by_bias else None)
        order = self._order(choice.experts, x.shape, context.real)
        if self.training:
            routed = self._routed(logits, choice, order, x.shape, context.real)
            if context.routing is not None:
                context.routing.add(routed)
        computed = self._computed(tokens, order, x.shape, context)
        weights = choice.weights if order.kept is None else choice.weights * order.kept.view_as(choice.weights)
        pairs = computed.new_zeros(choice.experts.numel(), x.shape[-1]).index_copy(0, order.pairs, computed)
        mixed = (pairs.unflatten(0, weights.shape) * weights[..., None]).sum(1).to(computed.dtype).view(x.shape)
        mixed = dropped(mixed, context.dropout, "feed_forward")
        return mixed if self.shared is None else mixed + self._shared(x, context)

    def _shared(self, x: Tensor, context: Context) -> Tensor:
        assert self.shared is not None
        out = self.shared(x, context.dropout)
        return out if self.shared_gate is None else out * torch.sigmoid(self.shared_gate(x)).to(out.dtype)

    def _order(self, chosen: Tensor, shape: torch.Size, real: Tensor | None) -> Order:
        there = None if real is None else real.flatten()
        if self.training and self.config.capacity is not None:
            return within_capacity(chosen, self.config, self._groups(shape[0]), there)
        if not self.training and self.config.limit is not None and self.config.limit < shape[1]:
            return within_limit(chosen, self.config, shape[0], there)
        return by_expert(chosen, self.config.count)

    def _groups(self, sequences: int) -> int:
        """Of so many sequences. Raises ValueError where they are no whole number of groups."""
        groups, rest = divmod(sequences, self.config.sequences)
        if rest:
            raise ValueError(f"{sequences} sequences are no whole groups of {self.config.sequences}")
        return groups

    def _routed(self, logits: Tensor, choice: Choice, order: Order, shape: torch.Size, real: Tensor | None) -> Routed:
        """What the router did, with the gradient of what its losses read."""
        sequences, length, groups = shape[0], shape[1], self._groups(shape[0])
        there = torch.ones(shape[:2], dtype=torch.bool, device=logits.device) if real is None else real
        z = torch.logsumexp(logits, dim=-1).square().view(sequences, length)
        count, per_token = self.config.count, self.config.per_token
        of_group = torch.arange(groups, device=logits.device)[:, None] * count + choice.experts.view(groups, -1)
        of_group = torch.where(there.view(groups, -1).repeat_interleave(per_token, dim=1), of_group, groups * count)
        scores = torch.where(there.view(-1, 1), choice.scores, 0.0)
        beyond = torch.zeros((), dtype=torch.int64, device=logits.device)
        if order.kept is not None:
            beyond = (there.view(-1, 1) & ~order.kept.view_as(choice.experts)).sum()
        return Routed(
            tokens=there.sum(1),
            z=torch.where(there, z, 0.0).sum(1),
            chosen=_numbers(of_group.flatten(), groups * count + 1)[:-1].view(groups, count),
            scores=scores.view(groups, -1, count).sum(1),
            dropped=beyond,
        )

    def _computed(self, tokens: Tensor, order: Order, shape: torch.Size, context: Context) -> Tensor:
        """What each expert makes of its tokens, [R, width] in the order of the pairs."""
        pairs = tokens[:, None].expand(-1, self.config.per_token, -1).reshape(-1, tokens.shape[-1])
        way = trip(order.ends, self.ranks)
        rows = way.there(pairs.to(computing_dtype(tokens)).index_select(0, order.pairs))
        hidden = self._hidden(rows, way.ends)
        if self.dropout_inside and context.dropout is not None:
            hidden = self._dropped(hidden, order, way, shape, context.dropout)
        return way.back(self._product(hidden, self.down, way.ends))

    def _dropped(self, hidden: Tensor, order: Order, way: Trip, shape: torch.Size, drop: Dropout) -> Tensor:
        """hidden [rows, hidden] after dropout, whose mask is by sample and place: where rows are of other ranks, those
        make it and send it along."""
        every, channels = shape[1] * self.config.per_token, hidden.shape[-1]
        if not isinstance(way, Abroad):
            whole = hidden.new_zeros(shape[0] * every, channels).index_copy(0, order.pairs, hidden)
            kept = dropped(whole.view(shape[0], every, -1), drop, "hidden")
            return kept.flatten(0, 1).index_select(0, order.pairs)
        ones = torch.ones(shape[0], every, channels, device=hidden.device)
        mask = (dropped(ones, drop, "hidden") > 0).flatten(0, 1).index_select(0, order.pairs)
        kept = unpacked(way.there(packed(mask)), channels)
        return torch.where(kept, hidden * drop.rates.scale, 0.0)

    def _hidden(self, x: Tensor, ends: Tensor) -> Tensor:
        up = self._product(x, self.up, ends)
        if self.gate is None:
            return self.activation(up)
        gate = self._product(x, self.gate, ends)
        return self.activation(gate) * up if self.gated is None else self.gated(gate, up, backend=self.backend)

    def _product(self, x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
        return grouped_linear(x, weights.to(x.dtype), ends, backend=self.product_backend)


def choose(logits: Tensor, experts: ExpertsConfig, bias: Tensor | None) -> Choice:
    """The experts of every token, of logits [T, E] in fp32 or better.

    bias [E]: added to the scores in the choice alone, not in the weights (Wang et al. 2024, Auxiliary-Loss-Free Load
    Balancing, equation 3)."""
    scores = logits.softmax(-1) if experts.score == "softmax" else logits.sigmoid()
    aims = scores.detach() if bias is None else scores.detach() + bias
    if experts.groups:
        aims = aims.masked_fill(~_in_best_groups(aims, experts), float("-inf"))
    chosen = aims.topk(experts.per_token, dim=-1).indices
    weights = scores.gather(-1, chosen)
    if experts.renormalise:
        weights = weights / (weights.sum(-1, keepdim=True) + SMALL)
    if experts.factor != 1:
        weights = weights * experts.factor
    shares = scores if experts.score == "softmax" else scores / (scores.sum(-1, keepdim=True) + SMALL)
    return Choice(chosen, weights, shares)


def _in_best_groups(aims: Tensor, experts: ExpertsConfig) -> Tensor:
    """Which experts [T, E] are of the groups with the best experts together (DeepSeek-V3, section 2.1.2)."""
    grouped = aims.unflatten(-1, (experts.groups, -1))
    best = grouped.topk(min(BEST_OF_GROUP, grouped.shape[-1]), dim=-1).values.sum(-1)
    allowed = torch.zeros_like(best, dtype=torch.bool)
    allowed.scatter_(-1, best.topk(experts.groups_per_token, dim=-1).indices, True)
    return allowed[..., None].expand_as(grouped).flatten(-2)


def by_expert(chosen: Tensor, count: int) -> Order:
    """All pairs, by expert and by token within it; chosen [T, k]."""
    flat = chosen.flatten()
    return Order(flat.argsort(stable=True), _numbers(flat, count).cumsum(0).int(), None)


def within_capacity(chosen: Tensor, experts: ExpertsConfig, groups: int, real: Tensor | None) -> Order:
    """Of each group's tokens an expert takes those that come first, all choices of a token before those of the next: so
    no token's place depends on a later one. Padding, where `real` [T] is false, takes no place.

    As many rows are computed as experts can take at the most, by shape alone; those of no use come last."""
    tokens, count = len(chosen) // groups, experts.count
    places, flat = max(1, experts.places(tokens) or 0), chosen.flatten()
    pairs = torch.arange(len(flat), device=chosen.device)
    queue = pairs // (tokens * experts.per_token) * count + flat
    there = None if real is None else real.repeat_interleave(experts.per_token)
    if there is not None:
        queue = torch.where(there, queue, groups * count)
    kept = _before(queue, groups * count + 1) < places
    if there is not None:
        kept = kept & there
    rows = groups * experts.rows(tokens)
    of = torch.where(kept, flat, count)
    ends = _numbers(of, count + 1)[:count].cumsum(0).int()
    ends[-1] = rows  # what else is computed is computed by the last expert
    return Order(of.argsort(stable=True)[:rows], ends, kept)


def within_limit(chosen: Tensor, experts: ExpertsConfig, sequences: int, real: Tensor | None) -> Order:
    """All pairs, of which those count that are among the first `limit` of their expert's in a sequence; chosen [T, k],
    real as in `within_capacity`."""
    flat, of_sequence = chosen.flatten(), chosen.numel() // sequences
    queue = torch.arange(len(flat), device=chosen.device) // of_sequence * experts.count + flat
    if real is not None:
        queue = torch.where(real.repeat_interleave(experts.per_token), queue, sequences * experts.count)
    kept = _before(queue, sequences * experts.count + 1) < (experts.limit or 0)
    return by_expert(chosen, experts.count)._replace(kept=kept)


def _before(queue: Tensor, count: int) -> Tensor:
    """How many of the same number stand before each of `queue`, whose numbers are below count."""
    line, lengths = queue.argsort(stable=True), _numbers(queue, count)
    places = torch.arange(len(queue), device=queue.device)
    return torch.empty_like(queue).scatter(0, line, places - (lengths.cumsum(0) - lengths)[queue[line]])


def _numbers(values: Tensor, count: int) -> Tensor:
    """How often each of 0 .. count - 1 is among the values, int64 [count]."""
    return values.new_zeros(count).scatter_add_(0, values, torch.ones_like(values))
