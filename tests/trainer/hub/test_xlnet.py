"""XLNet's two streams and its memory against transformers."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from test_parity import close
from tiny import ours, tiny

from trainer.hub import read_checkpoint


def permuted(length, seed):
    """Ranks of which some repeat at 0 (never predicted), and transformers' mask: 1 where i may not see j."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(length, generator=generator) for _ in range(2)])
    order = torch.where(order < length // 2, 0, order)
    hidden = (order[:, None, :] >= order[:, :, None]).float()  # the query stream; the content stream also sees itself
    hidden = torch.where((order[:, None, :] == 0) & (order[:, :, None] == 0), 0.0, hidden)
    return order, hidden


@torch.no_grad()
def test_query_stream(saved):
    """Places of rank 0 are context: there our query stream sees nothing, and transformers' has another rule."""
    net, model = ours(read_checkpoint(saved("xlnet"))), tiny("xlnet")
    tokens = torch.randint(6, 96, (2, 14), generator=torch.Generator().manual_seed(0))
    types = (torch.arange(14) > 6).long().expand(2, 14)
    order, hidden = permuted(14, 1)
    everywhere = torch.eye(14).expand(2, 14, 14)
    want = model(input_ids=tokens, perm_mask=hidden, target_mapping=everywhere, token_type_ids=types).logits
    got = net.logits(tokens, order=order, token_types=types)
    close(got, want, order > 0)


@torch.no_grad()
def test_memory_of_the_segment_before(saved):
    net, model = ours(read_checkpoint(saved("xlnet"))), tiny("xlnet")
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randint(6, 96, (2, 10), generator=generator) for _ in range(2))
    places = torch.arange(10).expand(2, 10)
    order, hidden = permuted(10, 3)
    everywhere = torch.eye(10).expand(2, 10, 10)
    settings = {"perm_mask": hidden, "target_mapping": everywhere, "use_mems": True}
    before = model(input_ids=first, **settings)
    want = model(input_ids=second, mems=before.mems, **settings).logits
    _, memory = net.backbone.two_streams(first, places, None, order)
    for mine, theirs in zip(memory, before.mems, strict=True):
        close(mine, theirs.transpose(0, 1) if theirs.shape[0] != 2 else theirs)
    got = net.head.logits(net.backbone.two_streams(second, places, None, order, memory=memory)[0])
    close(got, want, order > 0)
    without = net.logits(second, order=order)
    assert (without - want)[order > 0].abs().max() > 1e-2
