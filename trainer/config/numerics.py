"""The third kind of key: arithmetic that changes the outcome, within a stated spread.

*Science* decides the outcome and is hashed; *machinery* changes it by 1e-5 in fp32 at most, and is free. Between them
is the arithmetic that is asked for: it is no part of an experiment's identity, but runs of different numerics are not
seeds of one setting. A run carries them as a tag, e.g. `bf16`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from trainer.config.host import precision
from trainer.config.whole import MACHINERY, SCIENCE, Config
from trainer.utils.schema import Section

Kind = Literal["science", "numerics", "machinery"]
UNKNOWN = "not stated"  # of a run that no file tells of
RAW = "engine.deepspeed."
UNSET = object()
# DeepSpeed's own keys, or whole groups of them, that change in what numbers are computed, sent or added up.
RAW_NUMERICS = (
    *("torch_autocast", "bf16", "fp16", "amp", "data_types", "communication_data_type"),
    *("seq_parallel_communication_data_type", "compression_training", "quantize_training"),
    *("zero_optimization.zero_quantized_weights", "zero_optimization.zero_quantized_gradients"),
    *("zero_optimization.zero_quantized_nontrainable_weights", "zero_optimization.zeropp_loco_param"),
)


def numerics_keys() -> tuple[str, ...]:
    """The dotted names of the typed keys that the schema marks as numerics."""
    return tuple(f"{group}.{name}" for group, section in _sections() for name in section.numerics())


def _sections() -> Iterator[tuple[str, type[Section]]]:
    for group in MACHINERY:
        section = Config.model_fields[group].annotation
        if isinstance(section, type) and issubclass(section, Section):
            yield group, section


def kind(key: str) -> Kind:
    """The kind of a dotted key. Raises KeyError where no group has that name."""
    group = key.partition(".")[0]
    if group in SCIENCE:
        return "science"
    if group not in MACHINERY:
        raise KeyError(key)
    raw = key.startswith(RAW) and _raw(key.removeprefix(RAW))
    return "numerics" if raw or key in numerics_keys() else "machinery"


def numerics(config: Config) -> dict[str, Any]:
    """The values of the numerics keys on this host: what is automatic is resolved, raw keys are there if given. A key
    that has the value it was introduced with says nothing: the arithmetic is what it was before there was the key."""
    before = {f"{group}.{name}": value for group, one in _sections() for name, value in one.introduced().items()}
    values = {key: value for key in numerics_keys() if (value := _at(config, key)) != before.get(key, UNSET)}
    values["engine.precision"] = precision(config)
    return values | {RAW + name: value for name, value in _leaves(config.engine.deepspeed) if _raw(name)}


def asked(config: Config) -> dict[str, Any]:
    """As `numerics`, with `auto` where the host is to decide."""
    return numerics(config) | {"engine.precision": config.engine.precision}


def known_before(config: Config) -> dict[str, Any]:
    """What is known of a run before it starts: resolved where it runs on this host, else as asked for."""
    return numerics(config) if config.launch.is_here else asked(config)


def tag(values: Mapping[str, Any]) -> str:
    """The numerics in a few words: the precision, and every other key that says more."""
    words = [str(values.get("engine.precision", UNKNOWN))]
    for key, value in sorted(values.items()):
        if key != "engine.precision":
            words.append(f"{key.removeprefix(RAW).removeprefix('engine.')}={str(value).lower()}")
    return " ".join(words)


def _raw(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in RAW_NUMERICS)


def _at(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted name, value) of what is no group; a group that is switched off says nothing."""
    if tree.get("enabled") in (False, "false"):
        return []
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return found
