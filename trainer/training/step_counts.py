"""What one step asks of PyTorch: its operators, their floating-point operations and bytes, and what goes between ranks.

Counted by PyTorch's dispatcher, which sees every operator of the forward and the backward pass and every collective.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
# Operators that launch nothing, or only make room.
NOTHING = {"detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}
NOTHING |= {"promote_types"}


def counting() -> Any:
    """A dispatch mode with `counts` (operators, product_flop, attention_flop, other_bytes), `kinds` of operators by
    name, `collectives` by name, and `sent_bytes`, which this rank sends in them as rings do."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.counts: Counter[str] = Counter()
            self.kinds: Counter[str] = Counter()
            self.collectives: Counter[str] = Counter()
            self.sent_bytes = 0.0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            space, _, called = func._schema.name.partition("::")
            if space == "c10d":
                self.collectives[called.strip("_")] += 1
                self.sent_bytes += _sent_bytes(called, args)
                return made
            name = launched(func)
            if name is None:
                return made
            self.counts["operators"] += 1
            self.kinds[name] += 1
            if name in PRODUCTS:
                self.counts["product_flop"] += _product_flop(name, args)
            elif name.startswith(("_scaled_dot_product", "_flash_attention", "_efficient_attention")):
                self.counts["attention_flop"] += _attention_flop(name, args)
            else:
                tensors = [one for one in tree_leaves((args, kwargs, made)) if isinstance(one, Tensor)]
                self.counts["other_bytes"] += sum(one.numel() * one.element_size() for one in tensors)
            return made

    return Counting()


def launched(func: Any) -> str | None:
    """The name of an operator; None where it launches nothing, as a view does, or what only makes room."""
    (space, name), returned = func._schema.name.split("::"), func._schema.returns
    views = any(one.alias_info is not None and not one.alias_info.is_write for one in returned)
    return None if views or name in NOTHING or space in ("prim", "profiler") else name


def _sent_bytes(name: str, args: Any) -> float:
    """What one rank sends in a collective, on average over ranks, as a ring does: (n - 1) / n of the whole buffer of n
    ranks, twice that for an all-reduce (docstring of trainer/books/wire.py); one that sends to one other, all of it."""
    import torch
    from torch.distributed import ProcessGroup
    from torch.utils._pytree import tree_leaves

    buffers = [tree_leaves(one) for one in args]
    bytes_of = [sum(one.numel() * one.element_size() for one in of if isinstance(one, torch.Tensor)) for of in buffers]
    whole = max(bytes_of, default=0)  # of what goes in and what comes out one has the parts of all ranks
    if name.startswith(("send", "recv")):
        return float(whole) if name == "send" else 0.0
    groups = (one for one in args if isinstance(one, torch.ScriptObject))
    ranks = ProcessGroup.unbox(next(groups)).size()  # the second is what is done to the numbers
    return (2 if name.startswith("allreduce") else 1) * whole * (ranks - 1) / ranks


def _product_flop(name: str, args: Any) -> int:
    """2mnk of [.., m, k] with [.., k, n]."""
    left, right = args[1:3] if name in ("addmm", "baddbmm") else args[:2]
    return int(2 * left.numel() * right.shape[-1])


def _attention_flop(name: str, args: Any) -> int:
    """Two products forward, five backward (Dao et al. 2022, section 3.1), of the full square of queries and keys."""
    backward = "backward" in name
    query, key = args[1:3] if backward else args[:2]
    return int((5 if backward else 2) * 2 * query.numel() * key.shape[-2])
