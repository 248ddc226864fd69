"""The special tokens of a checkpoint of transformers, as ids: what its three configurations say, and the classes'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.config.science import SpecialIdsConfig
from trainer.data.tokenizer import Tokenizer
from trainer.tokenizer_files import ROLES, roles_of, settings, writes_types
from trainer.utils.errors import UserError

GENERATED = {"decoder_start", "forced_bos", "forced_eos"}
# What the configuration classes of transformers 5 take where config.json states none.
_FAIRSEQ = {"bos": 0, "eos": 2, "pad": 1}
_GEMMA = {"bos": 2, "eos": 1, "pad": 0}
DEFAULTS: dict[str, dict[str, int]] = {
    "gpt2": {"bos": 50256, "eos": 50256},
    "gpt_neo": {"bos": 50256, "eos": 50256},
    "gpt_neox": {"bos": 0, "eos": 2},
    "llama": {"bos": 1, "eos": 2},
    "olmo": {"eos": 50279, "pad": 1},
    "olmo2": {"eos": 50279, "pad": 1},
    "olmo3": {"eos": 50279, "pad": 1},
    "gemma": _GEMMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "cohere": {"bos": 5, "eos": 255001, "pad": 0},
    "mistral": {"bos": 1, "eos": 2},
    "mixtral": {"bos": 1, "eos": 2},
    "olmoe": {"eos": 50279, "pad": 1},
    "smollm3": {"bos": 128000, "eos": 128001, "pad": 128004},
    "opt": {"bos": 2, "eos": 2, "pad": 1},
    "bloom": {"bos": 1, "eos": 2},
    "xglm": {**_FAIRSEQ, "decoder_start": 2},
    "bert": {"pad": 0},
    "deberta-v2": {"pad": 0},
    "electra": {"pad": 0},
    "distilbert": {"pad": 0},
    "roberta": _FAIRSEQ,
    "camembert": _FAIRSEQ,
    "xlm-roberta": _FAIRSEQ,
    "xlm-roberta-xl": _FAIRSEQ,
    "albert": {"bos": 2, "eos": 3, "pad": 0},
    "xlm": {"bos": 0, "eos": 1, "pad": 2, "unk": 3, "mask": 5},
    "xlnet": {"bos": 1, "eos": 2, "pad": 5},
    "modernbert": {"bos": 50281, "eos": 50282, "pad": 50283, "sep": 50282, "cls": 50281},
    "bart": {**_FAIRSEQ, "decoder_start": 2, "forced_eos": 2},
    "mbart": {**_FAIRSEQ, "forced_eos": 2},
    "pegasus": {"eos": 1, "pad": 0, "decoder_start": 0, "forced_eos": 1},
    "t5": {"eos": 1, "pad": 0},
    "switch_transformers": {"eos": 1, "pad": 0},
    "mt5": {"eos": 1, "pad": 0, "decoder_start": 0},
}
KEYS = {("xlm", "mask"): "mask_index", ("xlm", "unk"): "unk_index"}  # that are not called <role>_token_id


def special_ids(folder: Path, tokenizer: Tokenizer | None, rows: int, family: str) -> SpecialIdsConfig:
    """The ids of a checkpoint's folder. rows: of the model's table of embeddings; family: of the model.

    Text is written as the tokenizer says (bos, pad, unk, mask, cls, sep); what is generated ends as
    generation_config.json says, else config.json: any of its `eos`, of which the tokenizer's own stands first.
    Raises UserError naming file and key of an id that is no id, or that the model has no row for.
    """
    found: dict[str, Any] = {}
    stated = {name: settings(folder, name) for name in ("config.json", "generation_config.json")}
    kind = stated["config.json"].get("model_type")
    for role in (*ROLES, "decoder_start", "forced_bos", "forced_eos"):
        key, default = KEYS.get((str(kind), role), f"{role}_token_id"), DEFAULTS.get(str(kind), {}).get(role)
        for name in ("generation_config.json", "config.json"):
            if stated[name].get(key) == default is not None and default >= rows:
                break  # a class writes its own down, also beside a small vocabulary: then there is none
            if (name == "config.json" or role in GENERATED | {"eos"}) and stated[name].get(key) is not None:
                found[role] = _ids(stated[name][key], rows, f"{folder / name}: {key}")
                break
        else:
            if default is not None and default < rows and key not in stated["config.json"]:
                found[role] = [default]
    ids = {role: several if role == "eos" else several[0] for role, several in found.items() if several}
    if tokenizer is not None:
        ids |= _of_text(folder, tokenizer, rows, ids.get("eos"))
    if family != "encoder_decoder":
        ids = {role: value for role, value in ids.items() if role not in GENERATED}
    elif "decoder_start" not in ids and "bos" in ids:
        ids["decoder_start"] = ids["bos"]
    return SpecialIdsConfig.model_validate(ids)


def _ids(value: Any, rows: int, where: str) -> list[int]:
    """One id or several; none for those below 0, by which some say that there is none."""
    several = value if isinstance(value, list) else [value]
    for one in several:
        if not isinstance(one, int) or isinstance(one, bool):
            raise UserError(f"{where}: {one!r} is no id; a whole number wanted, or for eos a list of them")
        if one >= rows:
            raise UserError(f"{where}: {one} given, the model has {rows} rows (ids 0 to {rows - 1})")
    return [one for one in several if one >= 0]


def _of_text(folder: Path, tokenizer: Tokenizer, rows: int, ends: list[int] | None) -> dict[str, Any]:
    """The ids that the tokenizer's settings name."""
    found: dict[str, Any] = {}
    for role, piece in roles_of(folder).items():
        token = tokenizer.id_of(piece)
        if token is None:
            continue
        if token >= rows:
            raise UserError(f"{folder}: {role}_token {piece!r} has the id {token}, the model has {rows} rows")
        found[role] = token
    own = found.pop("eos", None)
    if own is not None:
        found["eos"] = [own] if ends is None else [own, *(one for one in ends if one != own)] if own in ends else ends
    return found


def second_type(folder: Path, tokenizer: Tokenizer) -> int | None:
    """The token type of a pair's second text by the folder's tokenizer, as in the key `second_type`: 0 where it writes
    none, or the same for both texts.

    Raises UserError where it types texts in a way that no run does.
    """
    if not writes_types(folder):
        return 0
    if tokenizer.pair_types is None:
        raise UserError(
            f"{folder}: the tokenizer's post_processor gives one of two texts several token types, or others than 0 "
            "for the first and 0 or 1 for the second, which no run does; leave token_type_ids out of model_input_names "
            "in tokenizer_config.json where the model is used without them"
        )
    return None if tokenizer.pair_types[1] else 0


def stated_keys(ids: SpecialIdsConfig) -> Mapping[str, Any]:
    """The ids by the names that config.json has for them; several of `eos` as a list."""
    plain = {
        f"{role}_token_id": value
        for role, value in ids.model_dump(mode="json", exclude={"second_type"}).items()
        if value is not None
    }
    if len(plain.get("eos_token_id", [])) == 1:
        plain["eos_token_id"] = plain["eos_token_id"][0]
    return plain
