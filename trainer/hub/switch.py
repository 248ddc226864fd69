"""Switch Transformers (Fedus et al. 2022): T5 with one of many experts for every token."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.experts import LOAD_LOSS, weight
from trainer.hub.family import Entry, Family
from trainer.hub.layouts import ByExpert
from trainer.hub.t5 import ALWAYS, T5, TABLE
from trainer.hub.table import ACTIVATION, Always, Dropouts, Fields, Given, Key, Only, Several, whole
from trainer.utils.errors import UserError

Z_LOSS = "router_z_loss_coef"
SIDES = ("encoder", "decoder")
NO_LIMIT = 2**30  # from this capacity on no sequence is long enough to reach it


def _read(given: Given) -> Fields:
    """Which layers have experts, how many tokens of a sequence one takes, and the losses of the router."""
    config, depth = given.config, given.fields["depth"]
    depths = dict(zip(SIDES, (depth, given.fields["decoder_depth"] or depth), strict=True))
    several = {side: whole(config, f"num_sparse_{side}_layers", 3, least=0) for side in SIDES}
    steps = {side: depths[side] // (several[side] or 1) for side in SIDES}  # as the class counts them
    alike = [
        step
        for step in steps.values()
        if all(_places(step, depths[side]) == _places(steps[side], depths[side]) for side in SIDES)
    ]
    if not alike or not alike[0]:
        encoder, decoder = (f"num_sparse_{side}_layers={several[side]}" for side in SIDES)
        raise UserError(
            f"config.json: {decoder} of num_decoder_layers={depths['decoder']} is not supported beside {encoder} of "
            f"num_layers={depth}; layers with experts at the same distances in both are"
        )
    every = alike[0]
    limit = whole(config, "expert_capacity", 64)
    experts = {
        "count": whole(config, "num_experts", 8),
        "per_token": 1,
        "every": every,
        "first": 1 if every > 2 else None,
        "limit": limit if limit < NO_LIMIT else None,
        "balance_weight": weight(config, LOAD_LOSS, 0.001),
        "z_loss": weight(config, Z_LOSS, 0.001),
    }
    return {"experts": experts}


def _places(step: int, depth: int) -> list[int]:
    """The layers of a stack that have experts, as the class places them."""
    return [layer for layer in range(depth) if step == 1 or (step and layer % step == 1)]


def _write(model: ModelConfig) -> Fields:
    experts, depths = model.experts, (model.depth, model.decoder_side.depth)
    keys: Fields = {
        f"num_sparse_{side}_layers": depth // experts.every for side, depth in zip(SIDES, depths, strict=True)
    }
    keys |= {"num_experts": experts.count, "expert_capacity": experts.limit or NO_LIMIT}
    return keys | {LOAD_LOSS: experts.loss_weight, Z_LOSS: experts.z_loss}


SWITCH_TABLE = (
    Only({"router_bias": False, "router_dtype": "float32"}),
    Only({"tie_word_embeddings": True}, written=True),
    Always(ALWAYS | {"init": "t5", "gated": False, "tied": True, "head_scale": True}),
    *(row for row in TABLE if isinstance(row, Key | Dropouts)),
    Key("activation", "dense_act_fn", "relu", ACTIVATION),
    Several(_read, _write),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    """Those of T5, with experts in place of the feed-forward in some layers."""
    for entry in T5.entries(model):
        theirs, (ours,) = entry.theirs.replace(".DenseReluDense.", ".mlp."), entry.ours
        found = re.fullmatch(r"(.*\.blocks\.(\d+)\.feed_forward)\.(up|down)\.weight", ours)
        if found is None or not model.experts.at(int(found[2])):
            yield Entry(theirs, entry.ours, entry.layout)
            continue
        inside, name = theirs.removesuffix(".weight").rsplit(".", 1)
        if found[3] == "up":
            yield Entry(f"{inside}.router.classifier.weight", (f"{found[1]}.router.weight",))
        yield Entry(f"{inside}.experts.{name}", (f"{found[1]}.{found[3]}",))


_BY_EXPERT = tuple(
    ByExpert(f".mlp.experts.{name}", (f".mlp.experts.expert_{{}}.{name}.weight",)) for name in ("wi", "wo")
)
SWITCH = Family(
    "switch_transformers",
    "SwitchTransformersForConditionalGeneration",
    SWITCH_TABLE,
    _entries,
    aliases=T5.aliases,
    synonyms={name: theirs for name, theirs in T5.synonyms.items() if name != "head_dim"},
    by_expert=_BY_EXPERT,
)
