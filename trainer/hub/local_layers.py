"""Rows of config.json for models some of whose layers see a window alone: which, and how each kind turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.config.model import ModelConfig
from trainer.hub.table import Fields, Given, Row, Several, only, read_rotary, rope_parameters, table_in, whole
from trainer.utils.errors import UserError

GLOBAL, LOCAL = "full_attention", "sliding_attention"
SCALING = (
    *("rotary_scaling", "rotary_factor", "rotary_original_length"),
    *("rotary_beta_fast", "rotary_beta_slow", "rotary_attention_factor"),
)


def pattern(key: str, kinds: Any, depth: int, *, everywhere: str = GLOBAL, window: str = LOCAL) -> Fields:
    """Our keys for a list that names the kind of every layer: the words of a global and of a local one are given.

    Raises UserError, naming the key, where the global layers are not every n-th one."""
    if not isinstance(kinds, list) or len(kinds) != depth or any(one not in (everywhere, window) for one in kinds):
        raise UserError(f"config.json: {key}: a list of {depth!r} names wanted, each {everywhere!r} or {window!r}")
    rest = [layer for layer, kind in enumerate(kinds) if kind == everywhere]
    if len(rest) in (0, depth):
        return {"global_every": 1}
    last = rest[0] > 0
    every = rest[0] + 1 if last else (rest[1] if len(rest) > 1 else depth)
    if kinds != [everywhere if (layer + last) % every == 0 else window for layer in range(depth)]:
        raise UserError(
            f"config.json: {key} is not supported; every n-th layer is global, from the first or the n-th on"
        )
    return {"global_every": every, "global_last": last}


def layer_types(every: int | None, width: int) -> Row:
    """The row of `layer_types` and `sliding_window`. every, width: what the class takes where config.json says nothing:
    the last of every n layers is global, and a local one sees so many tokens, itself among them. every None: the number
    is in `sliding_window_pattern`, else 6."""

    def read(given: Given) -> Fields:
        kinds, number = given.config.get("layer_types"), every or whole(given.config, "sliding_window_pattern", 6)
        if kinds is None:
            found, local = {"global_every": number, "global_last": number > 1}, number > 1
        else:
            found, local = pattern("layer_types", kinds, given.fields["depth"]), LOCAL in kinds
        window = whole(given.config, "sliding_window", width, least=2) - 1 if local else None
        return {"window": window, **found}

    return Several(read, _write_layer_types)


def kinds_of(model: ModelConfig, everywhere: str = GLOBAL, window: str = LOCAL) -> list[str]:
    """The kind of every layer."""
    return [window if model.local(layer) else everywhere for layer in range(model.depth)]


def _write_layer_types(model: ModelConfig) -> Fields:
    kinds = kinds_of(model)
    return {"layer_types": kinds} | ({} if model.window is None else {"sliding_window": model.window + 1})


def ropes(base: float, local_base: float | None = None, older: Sequence[str] = ()) -> Row:
    """The row of `rope_parameters` with a table for each kind of layer; in older files `rope_theta` and `rope_scaling`,
    which are of global layers alone, and the base of local ones by the name in `older`.

    base, local_base: what the class takes where config.json says nothing; None: that of global layers."""

    def read(given: Given) -> Fields:
        tables = table_in(given.config, "rope_parameters")
        if tables and not tables.keys() & {GLOBAL, LOCAL}:
            raise UserError(f"config.json: rope_parameters: a table each for {GLOBAL!r} and {LOCAL!r} wanted")
        stated = {key: given.config[key] for key in ("rope_theta", "max_position_embeddings") if key in given.config}
        far = _read(table_in(tables, GLOBAL) | table_in(given.config, "rope_scaling"), stated, base)
        own = next((given.config[key] for key in older if given.config.get(key) is not None), None)
        if local_base is not None or own is not None:
            stated["rope_theta"] = local_base if own is None else own
        near = _read(table_in(tables, LOCAL), stated, base)
        fields = far | {"rotary_base_local": near["rotary_base"]}
        if near["rotary_base"] == far["rotary_base"]:
            fields["rotary_base_local"] = None
        if "rotary_scaling" not in near:
            return fields | {"rotary_scaled": "global" if "rotary_scaling" in far else "all"}
        if any(near.get(key) != far.get(key) for key in SCALING):
            raise UserError(
                f"config.json: rope_parameters: {LOCAL} is stretched otherwise than {GLOBAL}; alike or not at all is "
                "supported"
            )
        return fields

    return Several(read, _write_ropes)


def _read(table: Fields, stated: Fields, base: float) -> Fields:
    """Our keys of one kind of layers. stated: keys of config.json beside the table."""
    only(table, "partial_rotary_factor", 1.0)
    return read_rotary({**stated, "rope_parameters": table}, base)


def _write_ropes(model: ModelConfig) -> Fields:
    local = model.rotary_base_local or model.rotary_base
    far = rope_parameters(model)
    unstretched = {"rope_theta": local, "rope_type": "default"}
    near = unstretched if model.rotary_scaled == "global" else far | {"rope_theta": local}
    return {"rope_parameters": {GLOBAL: far, LOCAL: near}}
