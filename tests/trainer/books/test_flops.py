"""FLOPs against PyTorch's own counter, to the operation."""

from __future__ import annotations

import pytest
import torch
from parameter_cases import MODELS, config
from torch.utils.flop_counter import FlopCounterMode

from trainer.books import flops, parameters
from trainer.models import build, initialize


def counted(made, backend="reference"):
    """(forward, backward) operations of one step, by PyTorch."""
    torch.manual_seed(0)
    net = build(made.model_copy(update={"kernels": made.kernels.model_copy(update={"attention": backend})}))
    initialize(net, 0)
    net.recompute = made.engine.activation_checkpointing
    shape = (made.optim.batch_size, made.data.sequence_length)
    tokens = torch.randint(made.vocabulary, shape)
    positions = torch.arange(shape[1]).expand(shape)
    with FlopCounterMode(display=False) as forward:
        loss, _, _ = net(tokens, tokens, torch.zeros(shape, dtype=torch.int32), positions)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_equal_to_the_counter(model):
    made = config(model, optim={"batch_size": 3})
    account = flops(made)
    forward, backward = counted(made)
    assert forward == account.forward * account.tokens_per_step
    assert backward == account.backward * account.tokens_per_step
    assert forward + backward == account.per_step


def test_recomputation_of_blocks_is_counted_apart():
    made = config({}, optim={"batch_size": 2}, engine={"activation_checkpointing": True})
    account = flops(made)
    forward, backward = counted(made)
    assert forward + backward == account.hardware_per_token * account.tokens_per_step
    assert account.per_step == flops(config({}, optim={"batch_size": 2})).per_step


def test_fused_attention_backward_is_five_products():
    """The counter's own formula for a fused kernel, applied to this shape."""
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    made = config({"kv_heads": 2}, optim={"batch_size": 3})
    composed, fused = flops(made), flops(made, attention_backward="fused")
    shape = (3, 4, 32, 16)
    forward = sdpa_flop_count(shape, shape, shape)
    backward = sdpa_backward_flop_count(shape, shape, shape, shape)
    assert composed.attention_scores * composed.tokens_per_step == 3 * forward
    extra = (fused.hardware_per_token - composed.hardware_per_token) * composed.tokens_per_step
    assert extra == 3 * (backward - 2 * forward)
    assert fused.total == composed.total


def test_rules_of_thumb_stand_beside_the_count():
    """PaLM 540B: 6N + 12LHQT per token (Chowdhery et al. 2022, appendix B)."""
    made = config({}, optim={"batch_size": 2})
    account, weights = flops(made), parameters(made)
    assert account.six_n == 6 * weights.matrices
    assert account.six_n_attention - account.six_n == 12 * 3 * 4 * 16 * 32
    # The exact count differs from the rule only by the norms, which are no matrix products.
    assert account.six_n_attention - account.per_token == 6 * weights.norm


@pytest.mark.parametrize("width", [32, 64, 128])
def test_linear_in_tokens_and_steps(width):
    small = flops(
        config(
            {"width": width},
            budget={"steps": 10},
            optim={"batch_size": 2, "warmup_steps": 0},
        )
    )
    large = flops(
        config(
            {"width": width},
            budget={"steps": 30},
            optim={"batch_size": 4, "warmup_steps": 0},
        )
    )
    assert large.total == 6 * small.total
    assert large.per_token == small.per_token
