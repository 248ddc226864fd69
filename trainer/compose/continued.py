"""Continued pre-training: `init=<run>` takes over model, objective and tokenizer of the run whose weights it begins
from, where nothing else is said; all else is the new run's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.compose.composition import change, own_files
from trainer.compose.composition import compose as compose_new
from trainer.compose.overrides import Override, parse
from trainer.compose.parent import Parent, file_digest, find_parent
from trainer.compose.reading import Origin, origins, read
from trainer.compose.sources import EXPERIMENT, PACKAGE
from trainer.compose.upcycled import expert_contradictions
from trainer.config import Config, InitConfig, ModelConfig, SpecialIdsConfig, TokenizerConfig
from trainer.config.dropout_rates import DROPOUT
from trainer.config.tokenizer_file import with_rows
from trainer.utils.errors import UserError

KEY, TAKEN_OVER = "init", ("model", "objective", "tokenizer")
ROWS = "model.vocabulary"
LENGTH = "data.sequence_length"
# Keys of the model that leave the weights what they are: names and first weights, the reach of attention, how far
# rotary positions turn, the weight of a loss, and dropout.
FREE = {
    *("name", "vocabulary", "max_length", "init", "init_std", "init_residual", "generator_weight"),
    *("window", "global_every", "global_last", "rotary_base", "rotary_base_local", "nope_every"),
    *("rotary_scaling", "rotary_factor", "rotary_original_length", "rotary_scaled"),
    *("rotary_beta_fast", "rotary_beta_slow", "rotary_attention_factor"),
    "experts",  # see `expert_contradictions`
    *DROPOUT,
}


FOLLOW = ("kv_heads", "head_size", "ffn_width", "embedding_width")  # from others, where they are null


def compose(texts: Iterable[str], *, swept: bool = False) -> Config:
    """The configuration that these overrides describe, checked in full; with `init` among them, of a run that begins
    from another one's weights. swept: of these overrides sweeps are left out, not refused. Raises UserError with every
    error at once."""
    texts = list(texts)
    given = given_of(texts, KEY)
    if given is None:
        return compose_new(texts, swept=swept)
    if swept:
        given = Given([one for one in given.overrides if not one.is_sweep], given.data)
    return _continued(given)


def given_of(texts: Sequence[str], group: str) -> Given | None:
    """What is given, where the overrides or a file of theirs speak of this group; else None."""
    try:
        overrides = [one for one in parse(texts) if not one.is_sweep]
        if any(one.key.split(".")[0] == group for one in overrides) or own_files(overrides):
            given = Given(parse(texts), read(overrides))
            return None if given.data.get(group) in (None, {}) else given
    except UserError:  # composing tells
        pass
    return None


def _continued(given: Given) -> Config:
    given.refuse_many()
    parent, usual = find_parent(_as_group(given.data[KEY])), compose_new([])
    wrong = _contradictions(parent, given)
    words = [one.text for one in given.overrides if not (wrong and one.key.split(".")[0] == "model")]
    rows = parent.config.vocabulary
    try:
        longest = parent.config.max_length if parent.config.model.position == "learned" else None
        if longest and LENGTH not in given.keys and usual.data.sequence_length > longest:
            words.append(f"{LENGTH}={longest}")
        config = change(_base(usual, parent, given), words)
        same = _same_tokenizer(config, parent)
        if same and ROWS not in given.keys:
            config = _with_model(config, vocabulary=rows)
        if same and config.tokenizer.special_ids == SpecialIdsConfig():
            ids = {"special_ids": parent.config.tokenizer.special_ids}
            config = config.model_copy(update={"tokenizer": config.tokenizer.model_copy(update=ids)})
        config = with_rows(config)
    except UserError as error:
        raise UserError("\n".join([*wrong, *str(error).splitlines()])) from None
    if wrong:
        raise UserError("\n".join(wrong))
    longest = max(stage.sequence_length for stage in config.curriculum.stages)
    if config.model.position != "learned" and (config.model.max_length or longest) < longest:
        config = _with_model(config, max_length=longest)
    taken = InitConfig(
        run=str(parent.folder.path),
        step=parent.step,
        average=_as_group(given.data[KEY]).average,
        weights=parent.weights,
        tokenizer=parent.tokenizer if same else None,
    )
    return config.model_copy(update={KEY: taken})


class Given:
    """What the overrides, and files of the user's, say themselves: keys, and groups of which they choose an option."""

    def __init__(self, overrides: Sequence[Override], data: Mapping[str, Any]) -> None:
        self.overrides, self.data = overrides, data

    def refuse_many(self) -> None:
        """Raise UserError where more than one run is described."""
        wrong = [f"{one.text}: several values need -m (one run each)" for one in self.overrides if one.is_sweep]
        wrong += [f"{o.text}: this is many runs; isoflop {o.of_many} takes it" for o in self.overrides if o.of_many]
        if wrong:
            raise UserError("\n".join(wrong))

    @cached_property
    def _said(self) -> Mapping[str, Origin]:
        return origins(self.overrides)

    @cached_property
    def keys(self) -> set[str]:
        return {key for key, origin in self._said.items() if origin.layer != PACKAGE}

    @cached_property
    def groups(self) -> set[str]:
        chosen = {one.key for one in self.overrides if one.is_group and one.key != EXPERIMENT}
        if own_files(self.overrides):
            usual = origins([])
            chosen |= {group for group in TAKEN_OVER if _files(self._said, group) - _files(usual, group)}
        return chosen

    def says(self, group: str) -> bool:
        """Whether anything of a group is given."""
        return group in self.groups or any(key.startswith(f"{group}.") for key in self.keys)


def _files(said: Mapping[str, Origin], group: str) -> set[Any]:
    return {origin.file for key, origin in said.items() if key.startswith(f"{group}.") and origin.layer == PACKAGE}


def _as_group(named: Any) -> InitConfig:
    """The group as the files and overrides say it. Raises UserError."""
    try:
        return Config.model_validate({KEY: named}).init
    except ValidationError as error:
        wrong = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
        way = "name a run, e.g. init=runs/<experiment>/<id>"
        raise UserError("\n".join(f"{place}: {what}; {way}" for place, what in wrong)) from None


def _base(usual: Config, parent: Parent, given: Given) -> Config:
    """The usual configuration with what is taken over from the parent."""
    before = parent.config
    rows = None if given.says("tokenizer") else before.vocabulary
    longest = before.max_length if before.model.position == "learned" else before.model.max_length
    taken: dict[str, Any] = {"model": before.model.model_copy(update={"vocabulary": rows, "max_length": longest})}
    if "objective" not in given.groups and "objective.name" not in given.keys:
        taken["objective"] = before.objective
    if not given.says("tokenizer"):
        if parent.tokenizer is None:
            raise UserError(f"init: {parent.folder.path} has no tokenizer; name that of its model: tokenizer.path=...")
        taken["tokenizer"] = TokenizerConfig(
            path=str(parent.folder.tokenizer.absolute()), special_ids=before.tokenizer.special_ids
        )
    return usual.model_copy(update=taken)


def _same_tokenizer(config: Config, parent: Parent) -> bool:
    """Whether the run reads text as its parent did. One whose parent has none brings the one of its model."""
    path = config.tokenizer.path
    if parent.tokenizer is None:
        return True
    return path is not None and file_digest(Path(path)) == parent.tokenizer


def _contradictions(parent: Parent, given: Given) -> list[str]:
    """A line for each given key of the model that is not what the parent's weights are of."""
    model, wanted = parent.config.model, _wanted_model(given)
    whose, before = f"the weights of init={parent.folder.path}", _resolved(model)
    wrong = []
    if wanted.pop("size", None) is not None:
        wrong.append(f"model.size: {whose} have their size already; leave it out")
    bound = {name: value for name, value in wanted.items() if name in before and name not in FREE}
    other = {name for name, value in bound.items() if value not in (before[name], getattr(model, name))}
    stated = given.data.get("model") or {}
    if other & {"width", "heads", "gated"}:  # what follows from these is no line of its own
        other -= {name for name in FOLLOW if stated.get(name) is None}
    wrong += [
        f"model.{name}: {wanted[name]!r} given, {whose} have {before[name]!r}" for name in wanted if name in other
    ]
    wrong += expert_contradictions(model, wanted.get("experts"), whose)
    longest = parent.config.max_length
    if model.position == "learned" and wanted.get("max_length") not in (None, longest):
        wrong.append(f"model.max_length: {wanted['max_length']!r} given, {whose} have {longest} learned positions")
    return wrong


def _wanted_model(given: Given) -> dict[str, Any]:
    """The keys of the model that are given, with their values; of a preset all of its keys."""
    section = dict(given.data.get("model") or {})
    stated = {key.split(".")[1]: section.get(key.split(".")[1]) for key in given.keys if key.startswith("model.")}
    if "model" not in given.groups:
        return stated
    size = section.pop("size", None)
    try:
        whole = _resolved(ModelConfig.model_validate(section))
    except ValidationError:  # composing tells
        whole = section
    return {**whole, "size": size}


def _resolved(model: ModelConfig) -> dict[str, Any]:
    """The keys with what their nulls stand for."""
    return {
        **model.model_dump(mode="json"),
        "kv_heads": model.key_heads,
        "head_size": model.head_channels,
        "ffn_width": model.ffn_channels,
        "embedding_width": model.embedding_channels,
    }


def _with_model(config: Config, **values: object) -> Config:
    return config.model_copy(update={"model": config.model.model_copy(update=values)})
