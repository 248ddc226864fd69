"""The keys of a model beside those of config.json, row by row; reading and writing both go through the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trainer.config.model import ModelConfig
from trainer.utils.errors import UserError

Json = Mapping[str, Any]
Fields = dict[str, Any]  # keys with values: ours of a ModelConfig, or theirs of config.json

REQUIRED: Any = object()
# Keys of ours that are null by default, and the property that says what null comes to.
RESOLVED = {
    "kv_heads": "key_heads",
    "head_size": "head_channels",
    "ffn_width": "ffn_channels",
    "embedding_width": "embedding_channels",
}


@dataclass(frozen=True)
class Given:
    """What a row reads from."""

    config: Json  # config.json
    tensors: Callable[[str], Tensor | None]  # a tensor of the checkpoint by name, None where there is none
    fields: Fields  # our keys of the rows before


class Row:
    """Keys of ours and of config.json that belong together."""

    def read(self, given: Given) -> Fields:
        """Our keys. Raises UserError for what the zoo has not."""
        return {}

    def write(self, model: ModelConfig) -> Fields:
        """Their keys."""
        return {}


Table = tuple[Row, ...]


def read_table(table: Table, config: Json, tensors: Callable[[str], Tensor | None]) -> Fields:
    """Our keys of the model that config.json describes; of a key in two rows, the later row's value.

    Raises UserError naming all required keys that are missing, or the first value that the zoo has not."""
    required = [row.theirs for row in table if isinstance(row, Key) and row.default is REQUIRED]
    missing = [key for key in required if config.get(key) is None]
    if missing:
        raise UserError(f"config.json: {', '.join(missing)} missing")
    fields: Fields = {}
    for row in table:
        fields |= row.read(Given(config, tensors, fields))
    return fields


def write_table(table: Table, model: ModelConfig) -> Fields:
    """The keys of config.json that describe the model. What they cannot say is lost: `type_of` looks for that."""
    return {key: value for row in table for key, value in row.write(model).items()}


# --- values ----------------------------------------------------------------------------------------------------------


class Value:
    """A value that is the same on both sides."""

    def read(self, key: str, value: Any) -> Any:
        return value

    def write(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Words(Value):
    """Names of things: theirs -> ours. Of several names for one thing the first is written."""

    meanings: Mapping[Any, Any]

    def read(self, key: str, value: Any) -> Any:
        if not isinstance(value, str | bool) or value not in self.meanings:
            allowed = ", ".join(map(repr, self.meanings))
            raise UserError(f"config.json: {key}={value!r} is not supported; {allowed} are")
        return self.meanings[value]

    def write(self, value: Any) -> Any:
        """Their name; the first of all for a thing that has none."""
        return next((name for name, meaning in self.meanings.items() if meaning == value), next(iter(self.meanings)))


SAME = Value()
# The names of transformers' ACT2FN whose function is one of ours, to the last bits of fp32.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu"}
ACTIVATIONS |= dict.fromkeys(("gelu_pytorch_tanh", "gelu_fast", "gelu_accurate", "gelu_python_tanh"), "gelu_tanh")
ACTIVATIONS |= {"gelu_python": "gelu", "swish": "silu"}
ACTIVATION = Words(ACTIVATIONS)


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key(Row):
    """One key of ours that is one key of theirs.

    default: what theirs means where it is absent. A function of our keys of the rows before also stands for null and 0.
    Where the default is yes or no, theirs is read as yes or no; a number or null in its place is one, too.
    """

    ours: str
    theirs: str
    default: Any = REQUIRED
    value: Value = SAME
    also: str | None = None  # a second key of theirs with the same value; refused where it has another
    written: bool = True

    def read(self, given: Given) -> Fields:
        name = self.theirs
        if callable(self.default):
            found = given.config.get(name) or self.default(given.fields)
        else:
            found = given.config.get(name, self.default)
        if isinstance(self.default, bool):
            found = yes_or_no(name, found)
        if self.also is not None and given.config.get(self.also) not in (None, found):
            raise UserError(
                f"config.json: {self.also}={given.config[self.also]!r} is not supported beside {name}={found!r}: "
                "the two sides of a model are of one size here"
            )
        return {self.ours: self.value.read(self.theirs, found)}

    def write(self, model: ModelConfig) -> Fields:
        value = self.value.write(getattr(model, RESOLVED.get(self.ours, self.ours)))
        return {name: value for name in (self.theirs, self.also) if name is not None and self.written}


def sizes(vocabulary: str, width: str, depth: str, heads: str, ffn_width: str | None = None) -> Table:
    """Rows of the sizes, which config.json must have, by their names."""
    theirs = {"vocabulary": vocabulary, "width": width, "depth": depth, "heads": heads, "ffn_width": ffn_width}
    return tuple(Key(ours, name) for ours, name in theirs.items() if name is not None)


@dataclass(frozen=True)
class DecoderDepth(Key):
    """The depth of a decoder beside an encoder, after the row of `depth`. A default of null: as deep as the encoder."""

    def read(self, given: Given) -> Fields:
        if given.config.get(self.theirs, self.default) is None:
            return {self.ours: None}
        found = whole(given.config, self.theirs, self.default)
        return {self.ours: None if found == given.fields["depth"] else found}

    def write(self, model: ModelConfig) -> Fields:
        return {self.theirs: model.decoder_side.depth}


@dataclass(frozen=True)
class Written(Row):
    """A key of ours that config.json is told and is never read from it, such as how weights were drawn."""

    ours: str
    theirs: str
    value: Value = SAME

    def write(self, model: ModelConfig) -> Fields:
        return {self.theirs: self.value.write(getattr(model, self.ours))}


@dataclass(frozen=True)
class Dropouts(Row):
    """The rates of dropout that config.json states, by their keys; of several keys for one rate the first is read.

    Written is what the run drops or, where it drops nothing, what its paper states; nothing where nothing is stated.
    """

    hidden: tuple[str, ...]
    attention: tuple[str, ...]

    def read(self, given: Given) -> Fields:
        keys = {"paper_dropout": self.hidden, "paper_attention_dropout": self.attention}
        stated = {ours: rate(given.config, theirs[0]) for ours, theirs in keys.items() if theirs}
        return {ours: value for ours, value in stated.items() if value is not None}

    def write(self, model: ModelConfig) -> Fields:
        of = zip(
            (self.attention, self.hidden), reversed(model.stated_rates), strict=True
        )  # one key for both is hidden's
        return {key: value for keys, value in of if value is not None for key in keys}


@dataclass(frozen=True)
class Always(Row):
    """Keys of ours that every model of the type has."""

    ours: Fields

    def read(self, given: Given) -> Fields:
        return self.ours


@dataclass(frozen=True)
class Only(Row):
    """Keys of theirs that have the one value that the zoo can do, or are absent."""

    theirs: Fields
    written: bool = False

    def read(self, given: Given) -> Fields:
        for key, value in self.theirs.items():
            only(given.config, key, value)
        return {}

    def write(self, model: ModelConfig) -> Fields:
        return self.theirs if self.written else {}


@dataclass(frozen=True)
class HasTensor(Row):
    """A key of ours that the checkpoint tells by having a tensor or not."""

    ours: str
    tensor: str
    absent: Any = False
    there: Any = True

    def read(self, given: Given) -> Fields:
        return {self.ours: self.absent if given.tensors(self.tensor) is None else self.there}


@dataclass(frozen=True)
class Several(Row):
    """Keys that only make sense together, or whose values are computed."""

    reader: Callable[[Given], Fields]
    writer: Callable[[ModelConfig], Fields] = lambda model: {}

    def read(self, given: Given) -> Fields:
        return self.reader(given)

    def write(self, model: ModelConfig) -> Fields:
        return self.writer(model)


def only(config: Json, key: str, value: Any) -> None:
    """Raise UserError where config.json asks for something that the zoo has not. A key that is absent is as wanted."""
    if config.get(key, value) != value:
        raise UserError(f"config.json: {key}={config[key]!r} is not supported; {value!r} is")


def whole(config: Json, key: str, default: int | None = None, least: int = 1) -> int:
    """A whole number of config.json. Raises UserError for anything else; without a default for nothing, too."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"config.json: {key}={value!r}: a whole number of {least} or more wanted")
    return value


def number(config: Json, key: str, default: float | None = None) -> float:
    """As `whole`, any number above 0."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
        raise UserError(f"config.json: {key}={value!r}: a number above 0 wanted")
    return float(value)


def rate(config: Json, key: str) -> float | None:
    """A share that is dropped, null where none is stated. Raises UserError for anything else."""
    value = config.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1):
        raise UserError(f"config.json: {key}={value!r}: a number from 0 to below 1 wanted")
    return None if value is None else float(value)


def yes_or_no(key: str, value: Any) -> bool:
    """True or false; 1, 0 and null stand for them. Raises UserError for anything else."""
    if value is not None and value not in (0, 1):
        raise UserError(f"config.json: {key}={value!r}: true or false wanted")
    return bool(value)


def table_in(config: Json, key: str) -> Fields:
    """The object that a key of config.json holds; empty for null and where there is none."""
    value = config.get(key)
    if value is not None and not isinstance(value, dict):
        raise UserError(f"config.json: {key}={value!r}: an object wanted")
    return dict(value or {})


# --- activations of heads --------------------------------------------------------------------------------------------


def gelu_head(key: str) -> Row:
    """The head of the type is gelu in transformers whatever `key` says; ours has the activation of the blocks."""

    def read(given: Given) -> Fields:
        if given.fields["activation"] != "gelu":
            raise UserError(
                f"config.json: {key}={given.config[key]!r} is not supported: transformers' head of this type is gelu "
                "all the same, ours is as the blocks are; 'gelu' is"
            )
        return {}

    return Several(read)


# --- rotary positions ------------------------------------------------------------------------------------------------


def read_rotary(config: Json, base: float = 10_000.0) -> Fields:
    """Our keys for the rotary positions of config.json, in the form of transformers 5 (rope_parameters) or older.

    base: of the frequencies, where config.json names none.
    """
    older = table_in(config, "rope_scaling")  # before the newer one in transformers, too
    rope = older or table_in(config, "rope_parameters")
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = rope if rope.get("rope_theta") is not None else config
    fields: Fields = {"rotary_base": number(theta, "rope_theta") if theta.get("rope_theta") is not None else base}
    if kind == "default":
        return fields
    if kind not in ("linear", "llama3", "yarn"):
        told = "'default', 'linear', 'llama3', 'yarn' are"
        raise UserError(f"config.json: rope_type={kind!r} is not supported; {told}")
    fields |= {"rotary_scaling": kind, "rotary_factor": number(rope, "factor")}
    if kind == "llama3":
        for key, wanted in (("low_freq_factor", 1.0), ("high_freq_factor", 4.0)):
            if key not in rope:
                raise UserError(f"config.json: rope_type='llama3' without {key}; {wanted} is supported")
            only(rope, key, wanted)
    if kind == "yarn":
        fields |= _read_yarn(rope, fields["rotary_factor"])
    if kind in ("llama3", "yarn"):
        places = whole(config, "max_position_embeddings", 2048)
        length = whole(rope, "original_max_position_embeddings", places)
        only(config, "original_max_position_embeddings", length)
        fields["rotary_original_length"] = length
    return fields


def _read_yarn(rope: Json, factor: float) -> Fields:
    """What only yarn reads; null and 0 stand for what is usual. The factor of cosines and sines is stated, or comes
    from mscale and mscale_all_dim together (DeepSeek-V2)."""
    only(rope, "truncate", True)
    fields: Fields = {}
    for ours, theirs, usual in (("rotary_beta_fast", "beta_fast", 32.0), ("rotary_beta_slow", "beta_slow", 1.0)):
        fields[ours] = number({theirs: rope.get(theirs) or usual}, theirs)
    if rope.get("attention_factor") is not None:
        fields["rotary_attention_factor"] = number(rope, "attention_factor")
    elif rope.get("mscale") and rope.get("mscale_all_dim"):
        one, other = (1.0 + 0.1 * number(rope, key) * math.log(factor) for key in ("mscale", "mscale_all_dim"))
        fields["rotary_attention_factor"] = one / other
    return fields


def fully_rotary(given: Given, base: float = 10_000.0) -> Fields:
    """As `read_rotary`, of a type all of whose channels turn: by default whatever partial_rotary_factor says."""
    fields = read_rotary(given.config, base)
    if "rotary_scaling" in fields:
        for place in (given.config, *(table_in(given.config, key) for key in ("rope_scaling", "rope_parameters"))):
            only(place, "partial_rotary_factor", 1.0)
    return fields


def rope_parameters(model: ModelConfig) -> Fields:
    """The reverse of `read_rotary`, in the form of transformers 5."""
    rope: Fields = {"rope_theta": model.rotary_base, "rope_type": "default"}
    if model.rotary_scaling != "none":
        rope |= {"rope_type": model.rotary_scaling, "factor": model.rotary_factor}
    if model.rotary_scaling == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if model.rotary_scaling == "yarn":
        rope |= {"beta_fast": model.rotary_beta_fast, "beta_slow": model.rotary_beta_slow}
        rope |= {"attention_factor": model.rotary_attention_factor} if model.rotary_attention_factor else {}
    if model.rotary_scaling in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = model.rotary_original_length
    return rope


def usual_head_size(given: Given) -> Fields:
    """None; raises UserError where head_dim, which only the rotary positions of the type read, is another one."""
    size = given.fields["width"] // given.fields["heads"]
    if given.config.get("head_dim") not in (None, size):
        raise UserError(f"config.json: head_dim={given.config['head_dim']!r} is not supported; {size} is")
    return {}


def rotary_row(base: float = 10_000.0) -> Row:
    """Rotary positions; base: of the frequencies, where config.json names none."""
    return Several(lambda given: fully_rotary(given, base), lambda model: {"rope_parameters": rope_parameters(model)})
