"""What layers with experts have, compute and keep: what of the accounts is theirs alone."""

from __future__ import annotations

from trainer.config.model import ModelConfig
from trainer.descriptions.activations import ACTIVATIONS
from trainer.descriptions.optimizers import Role, Shape

FP32 = 4
INDEX = 8  # bytes of an int64


def feed_forward_numbers(model: ModelConfig) -> int:
    """Parameters of one dense feed-forward."""
    matrices = 3 if model.gated else 2
    return matrices * model.width * model.ffn_channels + model.bias * (
        (matrices - 1) * model.ffn_channels + model.width
    )


def _one(model: ModelConfig) -> int:
    """Parameters of one expert."""
    return (3 if model.gated else 2) * model.width * model.expert_channels


def routed_numbers(model: ModelConfig) -> int:
    """Parameters of one layer with experts: router, experts, shared experts and their gate."""
    experts = model.experts
    each = experts.count + experts.shared
    return each * _one(model) + (experts.count + experts.shared_gate) * model.width


def idle_numbers(model: ModelConfig) -> int:
    """Of these, those of experts that one token does not read."""
    experts = model.experts
    return (experts.count - experts.per_token) * _one(model) if experts.count else 0


def expert_shapes(model: ModelConfig) -> list[tuple[Role, Shape]]:
    """Roles and shapes of the parameters of one such layer."""
    experts, width, hidden = model.experts, model.width, model.expert_channels
    inwards = 2 if model.gated else 1
    found: list[tuple[Role, Shape]] = [("head", (experts.count, width))]
    found += [("matrix", (experts.count, hidden, width))] * inwards
    found.append(("matrix", (experts.count, width, hidden)))
    if experts.shared:
        found += [("matrix", (experts.shared * hidden, width))] * inwards
        found.append(("matrix", (width, experts.shared * hidden)))
    if experts.shared_gate:
        found.append(("head", (1, width)))
    return found


def rows(model: ModelConfig, tokens: int) -> int:
    """Pairs of token and expert that are computed of one sequence, on average over its group."""
    experts = model.experts
    return experts.rows(tokens * experts.sequences) // experts.sequences


def routed_flop(model: ModelConfig, tokens: int) -> int:
    """Operations of one such layer's forward pass over a sequence: every pair that is computed, the router, the shared
    experts."""
    experts = model.experts
    pairs = rows(model, tokens) + experts.shared * tokens
    router = 2 * tokens * model.width * (experts.count + experts.shared_gate)
    return router + 2 * pairs * _one(model)


def hidden_kept(model: ModelConfig) -> int:
    """Numbers that the inside of a feed-forward keeps for each of its channels and tokens."""
    kept = ACTIVATIONS[model.activation].saved + (3 if model.gated else 1)  # its result is the next layer's input
    if model.dropout_inside and model.hidden_rate and not model.gated and not ACTIVATIONS[model.activation].saved:
        kept += 1  # the backward pass of the activation needs its result, and the next layer reads what is left of it
    return kept


def expert_bytes(model: ModelConfig, sequences: int, tokens: int, low: int) -> int:
    """What one such layer keeps of a micro-batch inside of its feed-forward; low: bytes of a number in products.

    Of each pair its input, what the expert keeps and its output, as it is made and in its token's place, the order of
    the pairs, and a token's scores, its fp32 input to the router and its weights."""
    experts, hidden = model.experts, model.expert_channels
    if not experts.count:
        return 0
    pairs, every = sequences * rows(model, tokens), sequences * tokens * experts.per_token
    kept = pairs * (low * (2 * model.width + hidden_kept(model) * hidden) + INDEX)
    kept += every * (low * model.width + FP32 + INDEX)
    shared = sequences * tokens * low * hidden_kept(model) * experts.shared * hidden
    if experts.shared and low < FP32:  # a copy of its own of the input
        shared += sequences * tokens * low * model.width
    router = (
        sequences * tokens * (FP32 * 3 * experts.count + (FP32 - low) * model.width)
    )  # beyond a dense layer's input
    return kept + shared + router


def trip_bytes(model: ModelConfig, sequences: int, tokens: int, low: int) -> int:
    """Of one such layer's tokens on their way to experts of other ranks: what is sent, and what comes."""
    return 2 * low * model.width * sequences * rows(model, tokens) if model.experts.count else 0


def experts_said(model: ModelConfig) -> dict[str, str]:
    """A line on the experts for tables of a model's shape; nothing where there are none."""
    experts = model.experts
    if not experts.count:
        return {}
    shared = f" + {experts.shared} shared" if experts.shared else ""
    said = f"{experts.per_token} of {experts.count}{shared}, {model.expert_channels:,} wide"
    sides = (model, model.decoder_side) if model.family == "encoder_decoder" else (model,)
    return {"experts": said, "layers_with_experts": f"{sum(experts.layers(side.depth) for side in sides)}"}


def last_channels(model: ModelConfig) -> int:
    """Channels into the last product of such a layer where nothing needs its result in the backward pass: that of
    shared experts. What routed experts make is weighed, and so is what a gate weighs."""
    experts = model.experts
    return 0 if experts.shared_gate else experts.shared * model.expert_channels
