"""The group `model.experts`: feed-forwards that are mixtures of experts, and the rules that concern them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trainer.config.division import data_ranks
from trainer.utils.errors import nearest
from trainer.utils.schema import Section, key

GROUPS = ("sequence", "batch")


def _group(value: Any) -> Any:
    """What loads are counted over. Raises ValueError."""
    if value not in GROUPS and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        near = nearest(value, GROUPS) if isinstance(value, str) else ""
        raise ValueError(f"{value!r} given, sequence, batch, or a number of sequences from 1 on, wanted{near}")
    return value


Group = Annotated[
    int | Literal["sequence", "batch"],
    BeforeValidator(_group, json_schema_input_type=Annotated[int, Field(ge=1)] | Literal["sequence", "batch"]),
]


def _new(default: Any, help: str, unit: str | None = None, **bounds: Any) -> Any:
    return key(default, help, unit, introduced=default, **bounds)


class ExpertsConfig(Section):
    """A router sends every token to a few of many feed-forwards (Shazeer et al. 2017; Fedus et al. 2022)."""

    count: int = _new(0, "experts of a layer, of which a token reads per_token, without biases; 0: dense", ge=0)
    per_token: int = _new(2, "experts that every token reads (Switch: 1, Mixtral: 2)", "experts", ge=1)
    width: int | None = _new(None, "hidden size of one expert; null: that of the feed-forward", "channels", ge=1)
    shared: int = _new(0, "experts that every token reads besides, as one feed-forward (DeepSeek-MoE)", ge=0)
    shared_gate: bool = _new(False, "a sigmoid of the token weighs the shared experts (Qwen2-MoE)")
    every: int = _new(1, "every n-th layer has experts, the n-th first (Switch: 2); others are dense", "layers", ge=1)
    first: int | None = _new(
        None, "the first layer with experts, counted from 0; null: the n-th (transformers' Switch: 1)", "layers", ge=0
    )
    dense_layers: int = _new(0, "so many layers at the beginning are dense (DeepSeek-MoE: 1)", "layers", ge=0)

    score: Literal["softmax", "sigmoid"] = _new("softmax", "what the router's logits become (DeepSeek-V3: sigmoid)")
    renormalise: bool = _new(False, "the weights of a token's experts are divided by their sum (Mixtral)")
    factor: float = _new(1.0, "the weights are multiplied by it (DeepSeek-V3: 2.5)", gt=0)
    groups: int = _new(0, "experts are in so many groups, of which a token reads a few (DeepSeek-V3: 8); 0: off", ge=0)
    groups_per_token: int = _new(0, "of these groups (DeepSeek-V3: 4); with groups", ge=0)

    capacity: float | None = _new(
        None,
        "in training an expert takes so many times its even share of a group's tokens, first come first served; those "
        "beyond pass by it (Switch: 1.25). null: all are taken, as in evaluation and generation",
        gt=0,
    )
    limit: int | None = _new(
        None,
        "in evaluation and generation an expert takes so many of the tokens of a sequence that are read at once, first "
        "come first served (transformers' Switch: 64); null: all",
        "tokens",
        ge=1,
    )
    group: Group = _new(
        "sequence",
        "what loads and capacity are counted over: sequence, a number of sequences of successive numbers, or batch, "
        "which costs a forward pass more",
    )
    balance: Literal["loss", "bias", "both", "none"] = _new(
        "loss",
        "even loads by a loss (Switch, equation 4), by a bias of the choice that moves after every step (DeepSeek-V3), "
        "or by both",
    )
    balance_weight: float = _new(0.01, "weight of that loss", ge=0)
    bias_rate: float = _new(0.001, "how far the bias moves in a step", ge=0)
    z_loss: float = _new(0.001, "weight of the router's z loss (ST-MoE, Zoph et al. 2022, equation 5); 0: off", ge=0)

    def __str__(self) -> str:
        """The keys that are not at their defaults, as YAML has them in a line."""
        given = self.model_dump(exclude_defaults=True)
        return "{" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}"

    def at(self, layer: int) -> bool:
        """Whether this layer of a stack has experts."""
        first = self.every - 1 if self.first is None else self.first
        return self.count > 0 and layer >= max(first, self.dense_layers) and (layer - first) % self.every == 0

    def layers(self, depth: int) -> int:
        """How many of a stack's layers have experts."""
        return sum(self.at(layer) for layer in range(depth)) if self.count else 0

    @property
    def loss_weight(self) -> float:
        """Of the loss that evens loads; 0 where there is none."""
        return self.balance_weight if self.count and self.balance in ("loss", "both") else 0.0

    @property
    def by_bias(self) -> bool:
        """Whether a bias evens loads."""
        return self.count > 0 and self.balance in ("bias", "both")

    @property
    def routes_twice(self) -> bool:
        """Whether its loss reads the loads of the whole batch, which a forward pass before the step counts."""
        return self.group == "batch" and self.loss_weight > 0

    @property
    def sequences(self) -> int:
        """Of a group; those of one pass where a group is the whole batch count for one another."""
        return self.group if isinstance(self.group, int) else 1

    def places(self, tokens: int) -> int | None:
        """Tokens that one expert takes of a group of so many; null: all."""
        return None if self.capacity is None else int(self.capacity * self.per_token * tokens / self.count)

    def rows(self, tokens: int) -> int:
        """(token, expert) pairs of a group of so many tokens that are computed in training: of those that pass by no
        more than fill up what experts can take at the most."""
        places = self.places(tokens)
        every = self.per_token * tokens
        return every if places is None else min(every, self.count * max(1, places))


def misfits(model: Any) -> list[str]:
    """A line for each thing that is wrong among the keys of a model with experts, named below `model`."""
    experts = model.experts
    if not experts.count:
        given = [name for name in type(experts).model_fields if getattr(experts, name) != experts.introduced()[name]]
        return [f"experts.{name}: model.experts.count=0 has no experts; give experts.count too" for name in given]
    wrong = [*_routes(experts)]
    deepest = max(model.depth, model.decoder_depth or 0)
    if not experts.layers(deepest):
        first = "" if experts.first is None else f", first {experts.first}"
        wrong.append(
            f"experts.every: no layer of {deepest} has experts with every {experts.every}{first} and dense_layers "
            f"{experts.dense_layers}; every=1, first=null and dense_layers=0 give them to all"
        )
    there = {
        "shared_layers": (model.shared_layers, "one block for all layers would route them all alike"),
        "two_stream": (model.two_stream, "the two streams of permuted language modelling would route apart"),
        "generator_width": (model.generator_width, "the generator of replaced tokens is dense"),
        "mup_base_width": (model.mup_base_width, "muP is not worked out for routers"),
        "mup_base_depth": (model.mup_base_depth, "CompleteP is not worked out for routers"),
    }
    wrong += [f"experts.count: not with model.{name}; {why}" for name, (given, why) in there.items() if given]
    return wrong


def _routes(experts: Any) -> list[str]:
    """How tokens find their experts."""
    wrong = []
    if experts.per_token > experts.count:
        wrong.append(
            f"experts.per_token: a token cannot read {experts.per_token} of {experts.count} experts; at most "
            f"{experts.count}"
        )
    if experts.shared_gate and not experts.shared:
        wrong.append("experts.shared_gate: needs model.experts.shared of 1 or more")
    if bool(experts.groups) != bool(experts.groups_per_token):
        wrong.append(
            f"experts.groups_per_token: {experts.groups_per_token} of {experts.groups} groups; give both, or neither"
        )
    elif experts.groups:
        if experts.count % experts.groups:
            near = min(
                (n for n in range(1, experts.count + 1) if experts.count % n == 0),
                key=lambda n: abs(n - experts.groups),
            )
            wrong.append(f"experts.groups: {experts.groups} does not divide {experts.count} experts; {near} does")
        elif experts.groups_per_token > experts.groups:
            wrong.append(
                f"experts.groups_per_token: a token cannot read {experts.groups_per_token} of {experts.groups} groups"
            )
        elif experts.per_token > experts.groups_per_token * (experts.count // experts.groups):
            wrong.append(
                f"experts.per_token: {experts.groups_per_token} groups hold "
                f"{experts.groups_per_token * (experts.count // experts.groups)} experts, {experts.per_token} wanted"
            )
    if experts.capacity is not None and experts.group == "batch":
        wrong.append(
            "experts.capacity: needs a group that lies within one forward pass, experts.group=sequence or a number; "
            "which tokens of a whole batch come first no rank knows"
        )
    return wrong


def group_misfits(config: Any) -> list[str]:
    """A line for each thing that is wrong between experts and how a run's sequences are shared out."""
    experts = config.model.experts
    if not experts.count:
        return []
    shortest = config.shortest_length * experts.sequences
    wrong = []
    if experts.places(shortest) == 0:
        least = experts.count / (experts.per_token * shortest)
        wrong.append(
            f"model.experts.capacity: {experts.capacity:g} leaves no place for any of {shortest} tokens at "
            f"{experts.count} experts, all would be dropped; {least:.2g} or more leaves one"
        )
    if experts.sequences > 1:
        wrong += _uneven(config, experts.sequences)
    if config.engine.compile is True:
        wrong.append("engine.compile: not with model.experts; how many tokens an expert reads changes with every step")
    return wrong


def _uneven(config: Any, group: int) -> list[str]:
    """Groups of sequences lie whole in every forward pass of every rank."""
    ranks = data_ranks(config)
    for shape in config.curriculum.shapes:
        share = -(-shape.batch_size // ranks)
        rows = config.engine.micro_batch_of(share)
        if shape.batch_size % group or (ranks > 1 and share % group):
            whole = group * ranks
            near = max(whole, round(shape.batch_size / whole) * whole)
            of = f"{ranks} ranks' shares of " if ranks > 1 else ""
            size, way = f"optim.batch_size {shape.batch_size}", f"optim.batch_size={near}"
            if shape.batch_size != config.optim.batch_size:
                size, way = f"a batch of {shape.batch_size} (optim.batch_warmup)", f"{near}"
            return [f"model.experts.group: {group} sequences do not divide {of}{size}; {way} would do"]
        if rows % group:
            near = max(group, rows // group * group)
            return [
                f"model.experts.group: {group} sequences do not divide engine.micro_batch {rows}; "
                f"engine.micro_batch={near} would do"
            ]
    return []
