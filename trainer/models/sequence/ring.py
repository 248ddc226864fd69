"""Ring attention: queries stay, keys and values go around the ranks, and what attention makes of each part is merged by
its log-sum-exp (Liu et al. 2023, section 3; blockwise as in Rabe and Staats 2021).

With parts b of the keys, whose attentions out_b have log-sum-exps lse_b, and w_b = exp(lse_b - lse):

    lse = log sum_b exp(lse_b)            out = sum_b w_b out_b
    d out_b = w_b dout                    d lse_b = w_b (dout . (out_b - out) + dlse)

So nothing is kept but queries, keys, values, out and lse: the backward pass sends keys and values around once more,
computes each part again by the same kernels, and sends the gradients of keys and values along, which come home last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from kernels import T5Bias, attention
from trainer.models.products import computing_dtype
from trainer.models.sequence.shared import Shared
from trainer.models.sequence.slices import Slices, Stretch

# Arguments of `kernels.prepare_mask` that say who sees whom; others choose a backend.
ASKED: dict[str, Any] = {
    "causal": False,
    "window": None,
    "bias": None,
    "segments": None,
    "order": None,
    "strict": False,
}
BLOCK = 1024  # positions to a side, where a backend holds all scores


class Ring(Shared):
    """Each rank holds one stretch of positions or, by zigzag, two."""

    def mask(self, q_len: int, k_len: int, **asked: Any) -> RingMask:
        known = {name: asked.get(name, standard) for name, standard in ASKED.items()}
        if isinstance(bias := known["bias"], T5Bias):  # its own copy: the backward pass reads it once more
            known["bias"] = replace(bias, table=bias.table.clone())
        return RingMask(self.slices, q_len, k_len, **known)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: RingMask, *, sink: Tensor | None = None, **options: Any
    ) -> Tensor:
        """As `Sequences.attend`. Scores are always computed again, `again` or not."""
        assert options.pop("bias", None) is None, "a bias that is made of all queries and keys"
        options.pop("again", None)
        low = computing_dtype(query)
        pair = torch.stack((key.to(low), value.to(low)))
        table = mask.bias.table if isinstance(mask.bias, T5Bias) else None
        out, lse = _RingAttention.apply(query.to(low), pair, table, mask, options, self.group)
        if sink is None:
            return out
        return out * torch.sigmoid(lse - sink[:, None]).transpose(1, 2)[..., None].to(out.dtype)


class Block(NamedTuple):
    """Queries of this rank and keys of some rank: where they are among those that each holds."""

    rows: slice
    columns: slice


@dataclass(frozen=True)
class RingMask:
    """Who sees whom in whole sequences. segments, order: [B, whole length], or a pair for queries and keys."""

    slices: Slices
    q_len: int
    k_len: int
    causal: bool
    window: tuple[int, int] | None
    bias: Any
    segments: Any
    order: Any
    strict: bool

    def blocks(self, source: int, size: int | None) -> Iterator[tuple[Block, dict[str, Any]]]:
        """Blocks of this rank's queries and the keys of rank `source` in which a query may see a key, and the arguments
        of `kernels.attention` there. size: positions to a side at most, None: as they lie; whether documents meet is
        looked at where it is given, on a CPU."""
        ranks = self.slices.ranks
        held = list(_cut(self.slices.stretches(self.k_len // ranks, source), size))
        for rows, queries in _cut(self.slices.stretches(self.q_len // ranks), size):
            for columns, keys in held:
                segments = _part(self.segments, queries, keys)
                if self._near(queries, keys) and (size is None or segments is None or _meet(*segments)):
                    yield Block(rows, columns), self._arguments(queries, keys, segments)

    def _near(self, queries: Stretch, keys: Stretch) -> bool:
        """Whether causality and window let any of the queries see any of the keys."""
        nearest = keys.first - queries.first - (queries.length - 1)  # key minus query
        farthest = keys.first + keys.length - 1 - queries.first
        left, right = self.window or (None, None)
        right = 0 if self.causal else right
        return (right is None or nearest <= right) and (left is None or farthest >= -left)

    def _arguments(self, queries: Stretch, keys: Stretch, segments: Any) -> dict[str, Any]:
        return {
            "causal": self.causal,
            "window": self.window,
            "bias": self.bias,
            "segments": segments,
            "order": _part(self.order, queries, keys),
            "strict": self.strict,
            "places": (queries.first, keys.first),
        }


def _cut(stretches: tuple[Stretch, ...], size: int | None) -> Iterator[tuple[slice, Stretch]]:
    """Stretches of at most `size` positions, and where they are among those that a rank holds."""
    place = 0
    for first, length in stretches:
        step = size or max(length, 1)
        for begin in range(0, length, step):
            part = min(step, length - begin)
            yield slice(place + begin, place + begin + part), Stretch(first + begin, part)
        place += length


def _part(index: Any, queries: Stretch, keys: Stretch) -> tuple[Tensor, Tensor] | None:
    """Of numbers of whole sequences, those of these queries and keys."""
    if index is None:
        return None
    own, others = (index, index) if isinstance(index, Tensor) else index
    return own[:, queries.first :][:, : queries.length], others[:, keys.first :][:, : keys.length]


def _meet(own: Tensor, others: Tensor) -> bool:
    """Whether a key may be of a query's document; documents are numbered in ascending order."""
    lowest = own.masked_fill(own < 0, torch.iinfo(own.dtype).max).amin(1, keepdim=True)
    return bool(((others >= lowest) & (others <= own.amax(1, keepdim=True))).any())


class _RingAttention(torch.autograd.Function):
    """out [B, s, H, D] and lse float32 [B, H, s] of query [B, s, H, D] and pair (keys and values) [2, B, t, Hkv, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        pair: Tensor,
        table: Tensor | None,
        mask: RingMask,
        options: dict[str, Any],
        group: dist.ProcessGroup,
    ) -> tuple[Tensor, Tensor]:
        batch, length, heads, _ = query.shape
        out = torch.zeros(query.shape, dtype=torch.float32, device=query.device)
        lse = out.new_full((batch, heads, length), -torch.inf)
        held, ranks = pair, mask.slices.ranks
        for step in range(ranks):
            arrive = _pass_on(held, mask.slices, group) if step + 1 < ranks else None
            for block, arguments in mask.blocks((mask.slices.rank - step) % ranks, _size(query, options)):
                keys, values = held[:, :, block.columns]
                found = attention(query[:, block.rows], keys, values, return_lse=True, **arguments, **options)
                _merge(out[:, block.rows], lse[..., block.rows], *found)
            held = held if arrive is None else arrive()
        out = out.to(query.dtype)
        ctx.save_for_backward(query, pair, table, out, lse)
        ctx.mask, ctx.options, ctx.group = mask, options, group
        return out, lse

    @staticmethod
    def backward(ctx: Any, dout: Tensor, dlse: Tensor) -> tuple[Tensor | None, ...]:
        query, pair, table, out, lse = ctx.saved_tensors
        mask, ranks = ctx.mask, ctx.mask.slices.ranks
        dquery, dpair = (torch.zeros(one.shape, dtype=torch.float32, device=one.device) for one in (query, pair))
        dtable = None if table is None else torch.zeros_like(table)
        held = pair
        for step in range(ranks):
            arrive = _pass_on(held, mask.slices, ctx.group) if step + 1 < ranks else None
            for block, arguments in mask.blocks((mask.slices.rank - step) % ranks, _size(query, ctx.options)):
                rows, columns = block
                inputs = [query[:, rows], *held[:, :, columns], *([] if table is None else [table])]
                whole = out[:, rows], lse[..., rows], dout[:, rows], dlse[..., rows]
                found = _gradients(inputs, arguments, ctx.options, *whole)
                dquery[:, rows] += found[0]
                dpair[0, :, columns] += found[1]
                dpair[1, :, columns] += found[2]
                if dtable is not None:
                    dtable += found[3]
            dpair = _pass_on(dpair, mask.slices, ctx.group)()  # after the last step it is home
            held = held if arrive is None else arrive()
        return dquery.to(query.dtype), dpair.to(pair.dtype), dtable, None, None, None


def _size(query: Tensor, options: dict[str, Any]) -> int | None:
    """Positions to a side that are computed at once where the backend holds their scores; None: all."""
    return BLOCK if query.device.type == "cpu" or options.get("backend") == "reference" else None


def _merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Take another part into out and lse, in place."""
    total = torch.logaddexp(lse, part_lse)
    before, added = (_weight(one, total).transpose(1, 2)[..., None] for one in (lse, part_lse))
    out.mul_(before).add_(part * added)
    lse.copy_(total)


def _weight(part: Tensor, total: Tensor) -> Tensor:
    """exp(part - total), 0 where nothing is seen at all."""
    return torch.where(total > -torch.inf, torch.exp(part - total), 0.0)


def _gradients(
    inputs: list[Tensor],
    arguments: dict[str, Any],
    options: dict[str, Any],
    out: Tensor,
    lse: Tensor,
    dout: Tensor,
    dlse: Tensor,
) -> tuple[Tensor, ...]:
    """Of queries, keys and values of a block and of the table, by computing it again. out, lse, dout, dlse: of these
    queries over all keys."""
    leaves = [one.detach().requires_grad_() for one in inputs]
    if len(leaves) > 3:
        arguments = arguments | {"bias": replace(arguments["bias"], table=leaves[3])}
    with torch.enable_grad():
        query, key, value = leaves[:3]
        part, part_lse = attention(query, key, value, return_lse=True, **arguments, **options)
    weight = _weight(part_lse.detach(), lse)
    by_row = weight.transpose(1, 2)[..., None]
    moved = ((part.detach().float() - out) * dout).sum(-1).transpose(1, 2)
    pulls = (dout * by_row).to(part.dtype), weight * (moved + dlse)
    return torch.autograd.grad((part, part_lse), leaves, pulls)


def _pass_on(tensor: Tensor, slices: Slices, group: dist.ProcessGroup) -> Callable[[], Tensor]:
    """Send to the next rank of the ring; returns what waits for that of the rank before."""
    sent = tensor.contiguous()
    received = torch.empty_like(sent)
    to, by = (dist.get_global_rank(group, (slices.rank + step) % slices.ranks) for step in (1, -1))
    works = dist.batch_isend_irecv(
        [dist.P2POp(dist.isend, sent, to, group), dist.P2POp(dist.irecv, received, by, group)]
    )

    def arrive() -> Tensor:
        for work in works:
            work.wait()
        return received

    return arrive
