"""Which piece of a published tokenizer begins a text, ends it, pads, separates: by its settings, or by its class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.utils.bounded import parse_json
from trainer.utils.errors import UserError

ROLES = ("bos", "eos", "pad", "unk", "mask", "cls", "sep")
_BERT = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_FAIRSEQ = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>"}
_MASKED = {**_FAIRSEQ, "mask": "<mask>"}
_GPT2 = {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"}
# What a class of transformers takes for a role that the folder does not state.
BY_CLASS = {
    "BertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "DebertaV2Tokenizer": {**_BERT, "bos": "[CLS]", "eos": "[SEP]"},
    "RobertaTokenizer": _MASKED,
    "BartTokenizer": _MASKED,
    "XLMRobertaTokenizer": _MASKED,
    "CamembertTokenizer": _MASKED,
    "MBartTokenizer": _MASKED,
    "MBart50Tokenizer": _MASKED,
    "BarthezTokenizer": _MASKED,
    "XGLMTokenizer": _FAIRSEQ,
    "AlbertTokenizer": {
        **{"bos": "[CLS]", "eos": "[SEP]", "cls": "[CLS]", "sep": "[SEP]"},
        **{"unk": "<unk>", "pad": "<pad>", "mask": "[MASK]"},
    },
    "XLNetTokenizer": {
        **{"bos": "<s>", "eos": "</s>", "cls": "<cls>", "sep": "<sep>"},
        **{"unk": "<unk>", "pad": "<pad>", "mask": "<mask>"},
    },
    "T5Tokenizer": {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"},
    "ByT5Tokenizer": {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"},
    "PegasusTokenizer": {"eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask_2>"},
    "LlamaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
    "GPT2Tokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT2,
    "OpenAIGPTTokenizer": {"unk": "<unk>"},
    "XLMTokenizer": {**_FAIRSEQ, "cls": "</s>", "mask": "<special1>"},
}
# The class that a model type has where the folder names none, or only the common one.
BY_TYPE = {
    **{
        "bert": "BertTokenizer",
        "distilbert": "BertTokenizer",
        "electra": "BertTokenizer",
        "albert": "AlbertTokenizer",
        "xlnet": "XLNetTokenizer",
        "deberta-v2": "DebertaV2Tokenizer",
    },
    **{"roberta": "RobertaTokenizer", "bart": "RobertaTokenizer", "camembert": "CamembertTokenizer"},
    **{"xlm-roberta": "XLMRobertaTokenizer", "xlm-roberta-xl": "XLMRobertaTokenizer", "xglm": "XGLMTokenizer"},
    **{"mbart": "MBartTokenizer", "t5": "T5Tokenizer", "mt5": "T5Tokenizer", "llama": "LlamaTokenizer"},
    **{"gpt2": "GPT2Tokenizer", "opt": "GPT2Tokenizer", "gpt_neo": "GPT2Tokenizer"},
    **{"gpt_neox": "GPTNeoXTokenizer", "olmo": "GPTNeoXTokenizer"},
    **{"openai-gpt": "OpenAIGPTTokenizer", "pegasus": "PegasusTokenizer", "xlm": "XLMTokenizer"},
}

# Classes whose own files are not read -> why: of their models the weights come in without a tokenizer.
UNREAD = {"XLMTokenizer": "Moses' rules for each language come before its pieces"}

# Types of model whose tokenizer.json transformers takes as it is, whatever class is named.
AS_IT_IS = ("olmo2", "olmo3", "xlm-roberta-xl", "modernbert")


def settings(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object of that name in a folder; empty where there is no such file. Raises UserError for other JSON."""
    file = folder / name
    if not file.is_file():
        return {}
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: a JSON object wanted, {type(content).__name__} found")
    return content


def class_of(folder: Path) -> str | None:
    """The class of transformers that reads the folder's tokenizer, without `Fast`; None where only the common one."""
    model = settings(folder, "config.json")
    named = settings(folder, "tokenizer_config.json").get("tokenizer_class") or model.get("tokenizer_class")
    name = named.removesuffix("Fast") if isinstance(named, str) else None
    if name in BY_CLASS:
        return name
    kind = model.get("model_type")
    return BY_TYPE.get(kind) if name is None and isinstance(kind, str) else None


def built_by(folder: Path) -> str | None:
    """The class that makes the folder's tokenizer anew of its tokenizer.json and its settings; None where transformers
    takes the file as it is."""
    model = settings(folder, "config.json")
    named = settings(folder, "tokenizer_config.json").get("tokenizer_class") or model.get("tokenizer_class")
    as_it_is = AS_IT_IS if named else (*AS_IT_IS, "llama")
    return None if model.get("model_type") in as_it_is else class_of(folder)


def writes_types(folder: Path) -> bool:
    """Whether the folder's tokenizer gives token_type_ids, as transformers 5 does: where its settings or its class name
    them. Raises UserError where the settings name no list."""
    names = settings(folder, "tokenizer_config.json").get("model_input_names")
    if names is None:
        return class_of(folder) in ("BertTokenizer", "ElectraTokenizer", "DebertaV2Tokenizer")
    if not isinstance(names, list):
        file = folder / "tokenizer_config.json"
        raise UserError(f"{file}: model_input_names: {names!r} is no list of names such as input_ids")
    return "token_type_ids" in names


def roles_of(folder: Path) -> dict[str, str]:
    """Role -> piece, as transformers takes them: tokenizer_config.json, special_tokens_map.json, the class's own.

    Raises UserError where a file is no JSON object or a role no piece.
    """
    found = dict(BY_CLASS.get(class_of(folder) or "", {}))
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        stated = settings(folder, name)
        for role in ROLES:
            if f"{role}_token" not in stated:
                continue
            value = stated[f"{role}_token"]
            piece = value.get("content") if isinstance(value, dict) else value
            if piece is None:
                found.pop(role, None)
            elif isinstance(piece, str):
                found[role] = piece
            else:
                raise UserError(f"{folder / name}: {role}_token: a piece wanted, {piece!r} found")
    return found


def unread(folder: Path) -> str | None:
    """A line about the folder's own tokenizer where it is one that is not read; null: it is read."""
    kind = class_of(folder)
    if kind not in UNREAD or (folder / "tokenizer.json").is_file():
        return None
    return (
        f"the {kind} of {folder} is not read ({UNREAD[kind]}): give ids, or train with a tokenizer of yours "
        "(tokenizer.path)"
    )
