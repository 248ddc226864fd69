"""The tokenizer of a run as a fast tokenizer that AutoTokenizer loads: same pieces, same ids, same text back.

What our tokenizers do is said in the terms of the `tokenizers` library: no normalisation, spaces written as U+2581,
the model's own pieces, bytes for what no piece covers, special tokens that never come out of text.
Models whose training asked for a normalisation of their own are refused, not approximated. A tokenizer that came as a
tokenizer.json leaves as the same file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sentencepiece

from trainer.config import Config
from trainer.data.tokenizer import Tokenizer as OurTokenizer
from trainer.descriptions.objectives import LANGUAGE, TEXT, ObjectiveDescription
from trainer.hub.byte_tokenizer import byt5_settings, byte_level_file
from trainer.hub.files import named
from trainer.hub.normalization import ALLOWED, compared
from trainer.tasks.formats import Rows
from trainer.tokenizer_files.utf8 import SPECIALS, names_of_bytes
from trainer.utils.errors import UserError
from trainer.utils.files import write_synced

SPACE = "\u2581"
NEVER = -1e6  # a score that no text prefers
NAMED = {"<pad>": "pad_token", "<s>": "bos_token", "</s>": "eos_token", "<unk>": "unk_token", "<mask>": "mask_token"}
NAMED |= {"<sep>": "sep_token", "<cls>": "cls_token"}


@dataclass(frozen=True)
class Framing:
    """What a run writes around its texts, as ids, and how they become a batch."""

    before: tuple[int, ...]
    between: tuple[int, ...]  # two texts
    behind: tuple[int, ...]
    types: int  # kinds of token that the model is told of
    pads_left: bool  # what goes on where a prompt ends
    max_length: int | None  # tokens
    encloses: bool = False  # as encoders do: `before` and `behind` are their cls and sep


def framing_of(config: Config, tokenizer: OurTokenizer) -> Framing:
    """How the run's model reads a text: as it was tuned, else as it was trained (trainer/tasks/formats.py,
    trainer/generation/text.py)."""
    task, family = config.task.description, config.model.family
    rows = Rows(config, tokenizer)
    before: tuple[int, ...] = (rows.bos,)
    behind: tuple[int, ...] = (rows.eos,)
    between = tuple(rows.between)
    if family == "decoder" and (task is None or task.head is None):
        behind = between = ()
    if family == "encoder_decoder" and task is None:
        form = config.objective.description.encoder_input
        form = ObjectiveDescription.encoder_input if LANGUAGE in form else form
        place = form.index(TEXT)
        before = tuple(tokenizer.specials[piece] for piece in form[:place])
        behind = tuple(tokenizer.specials[piece] for piece in form[place + 1 :])
    types = config.model.token_types if family == "encoder" and tokenizer.second_type else 0
    pads_left = family == "decoder" and not behind
    return Framing(before, between, behind, types, pads_left, config.max_length, family == "encoder")


def write_tokenizer(
    folder: Path, model_file: Path, chat_template: str | None = None, framing: Framing | None = None
) -> tuple[str, ...]:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and the sentencepiece model, if it is one.

    chat_template: Jinja, how the messages of a conversation become one text. framing: what the tokenizer writes around
    a text; without it nothing, or what a tokenizer.json does by itself.

    Returns lines on what differs. Raises UserError where the model cannot be said in these terms, or where the extra
    that this needs is missing.
    """
    try:
        from tokenizers import AddedToken
    except ImportError:
        raise UserError("export of a tokenizer needs the extra: pip install 'isoflop[hub]'") from None
    content = model_file.read_bytes()
    if (names := names_of_bytes(content)) is not None:
        around = None if framing is None else (framing.before, framing.between, framing.behind)
        if (settings := byt5_settings(names, around)) is not None:
            pieces = {NAMED[piece]: piece for piece in SPECIALS}
            _write_settings(folder, pieces, [], chat_template, framing, settings)
            return ()
        content = byte_level_file(names)
    if content.lstrip()[:1] == b"{":
        opened = OurTokenizer(model_file)
        roles = {role: opened.specials[piece] for piece, role in NAMED.items() if piece in opened.specials}
        roles |= _enclosing(framing)
        if framing is not None:
            content = json.dumps(
                json.loads(content) | {"post_processor": _processor(framing, opened.piece)}, ensure_ascii=False
            ).encode()
        write_synced(folder / "tokenizer.json", content)
        named = {role: opened.piece(token) for role, token in roles.items()}
        _write_settings(folder, named, [], chat_template, framing)
        return ()
    proto = _proto(model_file)
    normalizer, differences = _normalizer(proto, model_file)
    tokenizer = _tokenizer(proto, normalizer)
    own = [piece.piece for piece in proto.pieces if piece.type == 4 and not _changes_ends(proto)]
    special = [piece.piece for piece in proto.pieces if piece.type in (2, 3)]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in special])
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in own])
    described = json.loads(tokenizer.to_str(pretty=False))
    if framing is not None:
        described["post_processor"] = _processor(framing, lambda token: proto.pieces[token].piece)
    write_synced(folder / "tokenizer.json", json.dumps(described, ensure_ascii=False).encode())
    named = {NAMED[piece]: piece for piece in special if piece in NAMED}
    named |= {role: proto.pieces[token].piece for role, token in _enclosing(framing).items()}
    extra = [piece for piece in special if piece not in named.values()]
    _write_settings(folder, named, extra, chat_template, framing)
    write_synced(folder / "tokenizer.model", content)
    return differences


def _enclosing(framing: Framing | None) -> dict[str, int]:
    """The ids of cls_token and sep_token of a model that has texts between them."""
    if framing is None or not framing.encloses:
        return {}
    return {"cls_token": framing.before[0], "sep_token": framing.behind[0]}


def _processor(framing: Framing, piece: Callable[[int], str]) -> dict[str, Any]:
    """The post-processor of a tokenizer.json: the ids around one text, and around two."""

    def special(tokens: tuple[int, ...], kind: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": piece(token), "type_id": kind}} for token in tokens]

    second = int(framing.types > 1)
    one = {"Sequence": {"id": "A", "type_id": 0}}
    before, behind = special(framing.before, 0), special(framing.behind, 0)
    two = [*before, one, *special(framing.between, 0), {"Sequence": {"id": "B", "type_id": second}}]
    used = {*framing.before, *framing.between, *framing.behind}
    return {
        "type": "TemplateProcessing",
        "single": [*before, one, *behind],
        "pair": [*two, *special(framing.behind, second)],
        "special_tokens": {
            piece(token): {"id": piece(token), "ids": [token], "tokens": [piece(token)]} for token in sorted(used)
        },
    }


def _write_settings(
    folder: Path,
    named: dict[str, str],
    extra: list[str],
    chat_template: str | None,
    framing: Framing | None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """named: role, e.g. pad_token -> piece; extra: special tokens without a role; more: other keys."""
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **named,
        **({"additional_special_tokens": extra} if extra else {}),
        **({"chat_template": chat_template} if chat_template else {}),
        **more,
    }
    if framing is not None:
        names = ["input_ids", "token_type_ids", "attention_mask"]
        settings["model_input_names"] = [name for name in names if framing.types > 1 or name != "token_type_ids"]
        settings["padding_side"] = "left" if framing.pads_left else "right"
        settings |= {"model_max_length": framing.max_length} if framing.max_length else {}
    for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", named)):
        write_synced(folder / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _proto(model_file: Path) -> Any:
    from sentencepiece import sentencepiece_model_pb2 as schema

    proto: Any = vars(schema)["ModelProto"]()  # made at run time
    proto.ParseFromString(model_file.read_bytes())
    wrong = []
    if not proto.normalizer_spec.escape_whitespaces:
        wrong.append("escape_whitespaces=false")
    if proto.trainer_spec.model_type not in (1, 2):
        wrong.append("a model that is neither unigram nor bpe")
    elif proto.trainer_spec.model_type == 2 and _changes_ends(proto) and any(p.type == 4 for p in proto.pieces):
        wrong.append("user_defined_symbols in a bpe that adds or removes whitespace")
    if wrong:
        raise UserError(f"{model_file}: cannot be exported exactly: it was trained with {', '.join(wrong)}")
    return proto


def _changes_ends(proto: Any) -> bool:
    """Whether the model treats the ends of a text in a way of their own, so that no text may be cut before it."""
    return bool(proto.normalizer_spec.add_dummy_prefix or proto.normalizer_spec.remove_extra_whitespaces)


def _normalizer(proto: Any, model_file: Path) -> tuple[Any, tuple[str, ...]]:
    """The normalizer, and lines that say where it is not sentencepiece's. Raises UserError where it is another one."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    found, wrong, tried = compared(proto, processor)
    symbols = [piece.piece for piece in proto.pieces if piece.type == 4]
    changed = [one for one in symbols if found.normalize_str(f"x{one}y") != processor.normalize(f"x{one}y")]
    name = proto.normalizer_spec.name or "its own"
    if wrong > ALLOWED * tried:
        raise UserError(
            f"{model_file}: cannot be exported exactly: of its normalization rules ({name}), {wrong:,} of {tried:,} "
            "come out otherwise in a tokenizer.json"
        )
    if changed:
        raise UserError(
            f"{model_file}: cannot be exported exactly: its normalization ({name}) would change the "
            f"user_defined_symbols {named(map(repr, changed))}, which sentencepiece leaves as they are"
        )
    said = f"of the tokenizer's normalization rules ({name}), {wrong:,} of {tried:,} that were tried come out otherwise"
    return found, (f"{said} than in sentencepiece",) if wrong else ()


def _tokenizer(proto: Any, normalizer: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models

    spec = proto.trainer_spec
    if spec.model_type == 1:
        model: Any = models.Unigram(_scores(proto), spec.unk_id, byte_fallback=bool(spec.byte_fallback))
    else:
        vocabulary = {piece.piece: index for index, piece in enumerate(proto.pieces)}
        model = models.BPE(
            vocabulary,
            _merges(proto),
            unk_token=proto.pieces[spec.unk_id].piece,
            fuse_unk=True,
            byte_fallback=bool(spec.byte_fallback),
            ignore_merges=False,
        )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    strip = [decoders.Strip(" ", 1, 0)] if _changes_ends(proto) else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _scores(proto: Any) -> list[tuple[str, float]]:
    """Pieces with their scores. Only ordinary pieces may be found in text: the others, such as <0x41>, are spelled
    there by chance. Symbols of the user's are scored as sentencepiece does where a text may not be cut around them."""
    highest = max((piece.score for piece in proto.pieces if piece.type == 1), default=0.0)

    def score(piece: Any) -> float:
        if piece.type == 4 and _changes_ends(proto):
            return len(piece.piece.encode()) * highest - 0.1
        return float(piece.score) if piece.type == 1 else NEVER

    return [(piece.piece, score(piece)) for piece in proto.pieces]


def _merges(proto: Any) -> list[tuple[str, str]]:
    """Pairs of pieces that make a piece, the best-scored result first: the order in which sentencepiece merges."""
    normal = {piece.piece: index for index, piece in enumerate(proto.pieces) if piece.type == 1}
    found = []
    for piece, index in normal.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in normal and right in normal:
                found.append((-proto.pieces[index].score, normal[left], normal[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]
