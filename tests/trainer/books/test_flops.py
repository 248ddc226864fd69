"""FLOPs against PyTorch's own counter, to the operation."""

from __future__ import annotations

import pytest
import torch
from parameter_cases import MODELS, config
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

import kernels.experts.flops  # noqa: F401 - so that the counter knows the grouped product
from trainer.books import flops, parameters
from trainer.books.lengths import lengths
from trainer.config.sequence import zigzag
from trainer.models import build, initialize
from trainer.models.sequence import WHOLE, Ring, use_sequences
from trainer.models.tiles import use_tiles


def batch(made):
    """Inputs of one forward pass, shaped as the objective would make them."""
    rows, (source, target) = made.optim.batch_size, lengths(made)

    def side(width, prefix=""):
        tokens = torch.randint(made.vocabulary, (rows, width))
        places = torch.arange(width).expand(rows, width)
        return {
            f"{prefix}tokens": tokens,
            f"{prefix}segments": torch.zeros_like(tokens, dtype=torch.int32),
            f"{prefix}positions": places,
        }

    if target:
        inputs = side(source, "source_") | side(target)
    else:
        inputs = side(source)
    inputs["targets"] = torch.randint(made.vocabulary, inputs["tokens"].shape)
    if made.objective.name == "permuted_lm":
        inputs["order"] = torch.arange(source, dtype=torch.int32).expand(rows, source)
    if made.objective.question:
        inputs["sentence_label"] = torch.zeros(rows, dtype=torch.int64)
    return inputs


def counted(made, sequences=WHOLE, inputs=None):
    """(forward, backward) operations of one step of one forward pass, by PyTorch."""
    torch.manual_seed(0)
    made = made.model_copy(update={"kernels": made.kernels.model_copy(update={"attention": "reference"})})
    net = build(made)
    initialize(net, 0)
    net.recompute = made.engine.activation_checkpointing
    use_sequences(net, sequences)
    use_tiles(net, made.engine.feed_forward_tile)
    with FlopCounterMode(display=False) as forward:
        loss, _, _ = net(**(inputs or batch(made)))
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_the_counter(name):
    made = config(name, optim={"batch_size": 3})
    account = flops(made)
    assert counted(made) == (account.forward_per_step, account.backward_per_step)


@pytest.mark.parametrize("choice", [True, 2, "selective"])
@pytest.mark.parametrize("name", MODELS)
def test_recomputation_is_counted_apart(name, choice):
    made = config(name, optim={"batch_size": 2}, engine={"activation_checkpointing": choice})
    account = flops(made)
    assert sum(counted(made)) == account.hardware_per_step
    assert account.per_step == flops(config(name, optim={"batch_size": 2})).per_step


DENSE = [name for name in MODELS if "experts" not in MODELS[name]]
QUICK = {("llama", False), ("neox", True), ("xlnet", True), ("t5", "selective")}


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        pytest.param(name, choice, marks=[pytest.mark.slow] * ((name, choice) not in QUICK))
        for name in DENSE
        for choice in (False, True, 2, "selective")
    ],
)
def test_tiles_are_counted_as_recomputation(name, choice):
    engine = {"activation_checkpointing": choice, "feed_forward_tile": 12}
    made = config(name, optim={"batch_size": 2}, engine=engine)
    account = flops(made)
    assert sum(counted(made)) == account.hardware_per_step
    assert account.per_step == flops(config(name, optim={"batch_size": 2})).per_step


def test_the_routing_pass_is_computed_twice():
    """Loads of a whole batch cost a forward pass more; no loss of loads, no pass."""
    by_sequence, by_batch = (flops(config({"experts": {"count": 4, **keys}})) for keys in ({}, {"group": "batch"}))
    assert by_batch.per_step == by_sequence.per_step
    assert by_batch.hardware_per_step == by_sequence.hardware_per_step + by_sequence.forward_per_step
    unused = flops(config({"experts": {"count": 4, "group": "batch", "balance": "bias"}}))
    assert unused.hardware_per_step == by_sequence.hardware_per_step


def test_fused_attention_backward_is_five_products():
    """The counter's own formula for a fused kernel, applied to this shape."""
    made = config({"kv_heads": 2}, optim={"batch_size": 3})
    composed, fused = flops(made), flops(made, attention_backward="fused")
    shape = (3, 4, 32, 16)
    forward = sdpa_flop_count(shape, shape, shape)
    backward = sdpa_backward_flop_count(shape, shape, shape, shape)
    assert composed.scores * composed.samples_per_step == 3 * forward
    assert fused.hardware_per_step - composed.hardware_per_step == 3 * (backward - 2 * forward)
    assert fused.total == composed.total


@pytest.mark.parametrize("choice", [False, True, "selective"])
@pytest.mark.parametrize(("name", "seen"), [("roberta", 1), ("grouped, untied", 10 / 16), ("sinks", 10 / 16)])
def test_a_ring_computes_scores_once_more(name, seen, choice, monkeypatch):
    """Of both ranks, in one process: what travels has the shape of what came. Causality hides 6 of 4 x 4 chunks, which
    are counted and not computed."""
    ring = {"sequence_parallel": 2, "sequence_kind": "ring", "activation_checkpointing": choice}
    made = config(name, optim={"batch_size": 2}, engine=ring, launch={"processes": 2})
    monkeypatch.setattr("trainer.models.sequence.ring._pass_on", lambda tensor, *_: lambda: tensor)
    arrays = {name: tensor.numpy() for name, tensor in batch(made).items()}
    done = 0
    for rank in range(2):
        share = Ring(None, rank, 2, zigzag=zigzag(made))
        share.total = lambda counts: counts
        done += sum(counted(made, share, {k: torch.from_numpy(v) for k, v in share.slices.batch(arrays).items()}))
    account = flops(made)
    passes = 5 if choice is True else 4  # forward, again, backward as two; and again where a block is
    hidden = round((1 - seen) * passes * account.scores * account.samples_per_step)
    assert done == account.hardware_per_step - hidden
    assert account.per_step == flops(config(name, optim={"batch_size": 2})).per_step


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_rules_of_thumb_stand_beside_the_count(name):
    """6N + 12LHQT per token (Chowdhery et al. 2022, appendix B) differs from the count by what is no matrix product."""
    made = config(name, optim={"batch_size": 2})
    account = flops(made)
    tokens = account.tokens_per_step
    assert account.twelve_lhqt_step == 12 * 3 * 4 * 16 * 32 * tokens
    rule = account.six_n_step + account.twelve_lhqt_step
    assert 0 < rule - account.per_step < 0.02 * rule


def test_encoder_decoder_is_half():
    """T5's tokens pass half of the weights each: 3 N D over source and target (Brown et al. 2020, table D.1)."""
    made = config("bart", optim={"batch_size": 2})
    blocks = parameters(made).non_embedding
    both = 2 * 2 * 32  # tokens of the two sides
    head = 6 * parameters(made).shared * 2 * 32
    assert flops(made).six_n_step - head == pytest.approx(3 * blocks * both, rel=0.2)  # a decoder block is larger


@pytest.mark.parametrize("objective", ["span_corruption", "ul2", "mass", "bart", "gap_sentences"])
@pytest.mark.parametrize("length", [32, 77, 512])
def test_target_lengths_are_those_of_the_objectives(objective, length):
    settings = {"name": objective} | ({"noises": ("text_infilling",)} if objective == "bart" else {})
    made = config("t5", objective=settings, data={"sequence_length": length})
    from trainer.objectives import objective as build_objective

    built = build_objective(made, vocabulary_of(300))
    assert lengths(made).target == getattr(built.inner, "target_width", length)


def vocabulary_of(sentinels: int):
    from trainer.objectives import Vocabulary

    names = ["<pad>", "<s>", "</s>", "<mask>", "<NLU>", "<NLG>", "<S2S>"]
    names += [f"<extra_id_{i}>" for i in range(sentinels)]
    return Vocabulary(512, {name: i for i, name in enumerate(names)}, lambda token: "word")


@pytest.mark.parametrize("width", [32, 64, 128])
def test_linear_in_samples_and_steps(width):
    small = flops(config({"width": width}, budget={"steps": 10}, optim={"batch_size": 2, "warmup_steps": 0}))
    large = flops(config({"width": width}, budget={"steps": 30}, optim={"batch_size": 4, "warmup_steps": 0}))
    assert large.total == 6 * small.total
    assert large.per_token == small.per_token
