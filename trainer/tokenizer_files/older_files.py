"""What older files of a tokenizer come to, with transformers' ids: a builder for each of its classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.tokenizer_files.class_parts import by_settings
from trainer.tokenizer_files.pieces import CAMEMBERT, FAIRSEQ, LANGUAGES, Pieces
from trainer.tokenizer_files.roles import class_of, roles_of, settings
from trainer.utils.bounded import read_bytes, read_text
from trainer.utils.errors import UserError

SPACE = "\u2581"


# --- sentencepiece models, by transformers' class ---------------------------------------------------------------------


def _model(file: Path, kind: int = 1) -> Any:
    """kind: 1 for unigram, 2 for BPE."""
    from sentencepiece import sentencepiece_model_pb2 as schema

    proto: Any = vars(schema)["ModelProto"]()  # made at run time
    proto.ParseFromString(read_bytes(file))
    if proto.trainer_spec.model_type != kind:
        raise UserError(f"{file}: a {'unigram' if kind == 1 else 'BPE'} model of sentencepiece wanted; this is none")
    return proto


def _unigram(
    pieces: Pieces, unk: int, normalizers: list[Any], specials: list[str], *, prefix: bool = True, split: bool = True
) -> Any:
    """prefix: whether a word has a space before it; split: whether words are cut first."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers import normalizers as rules

    tokenizer = Tokenizer(models.Unigram(pieces, unk, byte_fallback=False))
    if normalizers:
        tokenizer.normalizer = rules.Sequence(normalizers)
    scheme = "always" if prefix else "never"
    space = pre_tokenizers.Metaspace(SPACE, scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space]) if split else space
    tokenizer.decoder = decoders.Metaspace(SPACE, scheme)
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in specials])
    return tokenizer


def _charsmap(proto: Any) -> list[Any]:
    from tokenizers import normalizers

    found = proto.normalizer_spec.precompiled_charsmap
    return [normalizers.Precompiled(found)] if found else []


def _template(tokenizer: Any, single: str, pair: str) -> Any:
    """With what stands around one text and around two; `[X]` of the template are pieces."""
    from tokenizers import processors

    names = {word.rpartition(":")[0] for word in pair.split()} - {"$A", "$B"}
    ids = [(name, tokenizer.token_to_id(name)) for name in sorted(names)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return tokenizer


ROBERTA = ("<s>:0 $A:0 </s>:0", "<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0")
BERT = ("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")


def _prefixed(file: Path) -> bool:
    return bool(settings(file.parent, "tokenizer_config.json").get("add_prefix_space", True))


def _scored(proto: Any, first: int = 0) -> Pieces:
    return [(piece.piece, piece.score) for piece in proto.pieces[first:]]


def _xlmr(file: Path) -> Any:
    proto = _model(file)
    pieces = [*FAIRSEQ, *_scored(proto, 3), ("<mask>", 0.0)]
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return _template(_unigram(pieces, 3, _charsmap(proto), specials, prefix=_prefixed(file)), *ROBERTA)


def _camembert(file: Path) -> Any:
    proto = _model(file)
    pieces = [*CAMEMBERT, *_scored(proto, 1), ("<mask>", 0.0)]
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]
    return _template(_unigram(pieces, 3, _charsmap(proto), specials, prefix=_prefixed(file)), *ROBERTA)


def _mbart(file: Path) -> Any:
    proto = _model(file)
    pieces = [*FAIRSEQ, *_scored(proto, 3), *((name, 0.0) for name in LANGUAGES), ("<mask>", 0.0)]
    specials = ["<s>", "<pad>", "</s>", "<unk>", *LANGUAGES, "<mask>"]
    own = settings(file.parent, "tokenizer_config.json").get("src_lang") or "en_XX"
    if own not in LANGUAGES:
        raise UserError(f"{file.parent / 'tokenizer_config.json'}: src_lang: {own!r} is no language of mBART's")
    behind = f"</s>:0 {own}:0"
    return _template(_unigram(pieces, 3, [], specials), f"$A:0 {behind}", f"$A:0 $B:0 {behind}")


def _xglm(file: Path) -> Any:
    from tokenizers import Regex, normalizers

    proto = _model(file)
    made_up = [f"<madeupword{number}>" for number in range(7)]
    pieces = [*FAIRSEQ, *_scored(proto, 3), *((name, 0.0) for name in made_up)]
    rules = [*_charsmap(proto), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer = _unigram(
        pieces, 3, rules, ["<s>", "<pad>", "</s>", "<unk>", *made_up], prefix=_prefixed(file), split=False
    )
    return _template(tokenizer, "</s>:0 $A:0", "</s>:0 $A:0 </s>:0 </s>:0 $B:0")


def _t5(file: Path) -> Any:
    proto = _model(file)
    count = settings(file.parent, "tokenizer_config.json").get("extra_ids", 100)
    if not isinstance(count, int) or not 0 <= count <= 10_000:
        raise UserError(f"{file.parent / 'tokenizer_config.json'}: extra_ids: {count!r} is no number of sentinels")
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(count))]
    pieces = [*_scored(proto), *((name, 0.0) for name in sentinels)]
    tokenizer = _unigram(pieces, 2, _charsmap(proto), ["<pad>", "</s>", "<unk>", *sentinels])
    return _template(tokenizer, "$A:0 </s>:0", "$A:0 </s>:0 $B:0 </s>:0")


def _pegasus(file: Path) -> Any:
    from tokenizers import Regex, normalizers

    proto, stated = _model(file), settings(file.parent, "tokenizer_config.json")
    where = file.parent / "tokenizer_config.json"
    offset = stated.get("offset", 103)
    if not isinstance(offset, int) or not 2 <= offset <= 10_000:
        raise UserError(f"{where}: offset: {offset!r} is no number of reserved ids")
    masks = [stated.get("mask_token", "<mask_1>"), stated.get("mask_token_sent", "<mask_2>")]  # in this order, by class
    given = [mask.get("content") if isinstance(mask, dict) else mask for mask in masks]
    names = [name for name in given if isinstance(name, str)]
    if len(set(names)) < 2:
        raise UserError(f"{where}: mask_token={given[0]!r} and mask_token_sent={given[1]!r}: two pieces wanted")
    specials = ["<pad>", "</s>", *names, *(f"<unk_{number}>" for number in range(2, offset))]
    pieces = [*((name, -100.0 if name.startswith("<unk_") else 0.0) for name in specials), *_scored(proto, 2)]
    if pieces[len(specials)] != ("<unk>", 0.0):
        raise UserError(f"{file}: <unk> wanted as its third piece, {pieces[len(specials)][0]!r} found: not Pegasus's")
    rules = [*(_charsmap(proto) or [normalizers.Replace("\n", " ")]), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer = _unigram(pieces, len(specials), rules, [*specials, "<unk>"], split=False)
    return _template(tokenizer, "$A:0 </s>:0", "$A:0 $B:0 </s>:0")


def _quotes(file: Path, lower: bool, accents: bool) -> list[Any]:
    from tokenizers import normalizers

    stated = settings(file.parent, "tokenizer_config.json")
    rules: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if accents or not stated.get("keep_accents", False):
        rules += [normalizers.NFKD(), normalizers.StripAccents()]
    if stated.get("do_lower_case", lower):
        rules.append(normalizers.Lowercase())
    return rules


def _albert(file: Path) -> Any:
    proto = _model(file)
    rules = [*_quotes(file, lower=True, accents=False), *_charsmap(proto)]
    specials = ["[CLS]", "[SEP]", "<unk>", "<pad>", "[MASK]"]
    tokenizer = _template(_unigram(_scored(proto), 1, rules, specials, prefix=_prefixed(file)), *BERT)
    return _stated_ends(tokenizer, file)


def _stated_ends(tokenizer: Any, file: Path) -> Any:
    """With bos and eos alone around a text where the settings say either of `add_bos_token` and `add_eos_token`: then
    transformers puts nothing else there."""
    stated, roles = settings(file.parent, "tokenizer_config.json"), roles_of(file.parent)
    if not {"add_bos_token", "add_eos_token"} & stated.keys():
        return tokenizer
    there = {role: roles[role] for role in ("bos", "eos") if stated.get(f"add_{role}_token") and role in roles}
    if wrong := [piece for piece in there.values() if tokenizer.token_to_id(piece) is None]:
        raise UserError(f"{file}: has no piece {wrong[0]!r}, which tokenizer_config.json puts around a text")
    parts = [[f"{there[role]}:{{0}}"] if role in there else [] for role in ("bos", "eos")]
    first, second = (" ".join([*parts[0], f"${text}:{{0}}", *parts[1]]).format(kind) for kind, text in enumerate("AB"))
    return _template(tokenizer, first, f"{first} {second}")


def _xlnet(file: Path) -> Any:
    proto = _model(file)
    rules = [*_quotes(file, lower=False, accents=True), *_charsmap(proto)]
    specials = ["<s>", "</s>", "<unk>", "<sep>", "<pad>", "<cls>", "<mask>", "<eop>", "<eod>"]
    tokenizer = _unigram(_scored(proto), proto.trainer_spec.unk_id, rules, specials)
    return _template(tokenizer, "$A:0 <sep>:0 <cls>:2", "$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2")


def _deberta(file: Path) -> Any:
    from tokenizers import Tokenizer

    pieces, unk = _scored(_model(file)), ("[UNK]", 0.0)
    specials = ["[CLS]", "[SEP]", "[UNK]", "[PAD]", "[MASK]"]
    plain = _unigram(pieces, pieces.index(unk) if unk in pieces else 1, [], specials, split=False)
    made = by_settings(plain.to_str().encode(), file.parent)
    return _template(Tokenizer.from_buffer(made), *BERT)


def _llama(file: Path) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    proto, stated, roles = _model(file, 2), settings(file.parent, "tokenizer_config.json"), roles_of(file.parent)
    rank = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    halves = ((whole, whole[:cut], whole[cut:]) for whole in rank for cut in range(1, len(whole)))
    pairs = [(rank[w], rank[a], rank[b], (a, b)) for w, a, b in halves if a in rank and b in rank]
    merges = [pair for *_, pair in sorted(pairs)]
    tokenizer: Any = Tokenizer(models.BPE(rank, merges, unk_token=roles.get("unk"), fuse_unk=True, byte_fallback=True))
    prefix = stated.get("add_prefix_space") is not False
    scheme = ("always" if stated.get("legacy", False) else "first") if prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme, False)
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    tokenizer.decoder = decoders.Sequence(steps)
    own = [(piece.piece, piece.type == 3) for piece in proto.pieces if piece.type in (3, 4)]
    for piece, special in own:
        token = AddedToken(piece, normalized=False, special=special)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return _stated_ends(tokenizer, file)


# --- lists of pieces --------------------------------------------------------------------------------------------------


def _word_pieces(file: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    stated, roles = settings(file.parent, "tokenizer_config.json"), roles_of(file.parent) or {}
    lines = read_text(file).split("\n")
    vocabulary = {line.rstrip("\r"): number for number, line in enumerate(lines[: len(lines) - (not lines[-1])])}
    tokenizer: Any = Tokenizer(models.WordPiece(vocabulary, unk_token=roles.get("unk", "[UNK]")))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=stated.get("tokenize_chinese_chars", True),
        strip_accents=stated.get("strip_accents"),
        lowercase=stated.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    names = {"cls": "[CLS]", "sep": "[SEP]"} | roles
    if missing := [name for name in ("cls", "sep") if names[name] not in vocabulary]:
        raise UserError(f"{file}: has no piece {names[missing[0]]!r}, which is its {missing[0]}_token")
    single, pair = (form.replace("[CLS]", names["cls"]).replace("[SEP]", names["sep"]) for form in BERT)
    return _template(tokenizer, single, pair)


def _byte_level(file: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    stated = settings(file.parent, "tokenizer_config.json")
    prefix = bool(stated.get("add_prefix_space", False))
    vocabulary = settings(file.parent, file.name)
    lines = read_text(file.parent / "merges.txt").split("\n")
    pairs = [line.rstrip("\r").split(" ") for line in lines if line.strip() and not line.startswith("#version")]
    if wrong := next((pair for pair in pairs if len(pair) != 2), None):
        raise UserError(f"{file.parent / 'merges.txt'}: two pieces a line wanted, {' '.join(wrong)[:40]!r} found")
    merges = [(one, other) for one, other in pairs]
    tokenizer: Any = Tokenizer(models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    roles, ids = roles_of(file.parent), {piece: int(token) for piece, token in vocabulary.items()}
    if (kind := class_of(file.parent)) in ("RobertaTokenizer", "BartTokenizer"):
        sep, cls = roles["sep"], roles["cls"]
        if sep not in ids or cls not in ids:
            raise UserError(f"{file}: has no {sep!r} or no {cls!r}, which {kind} puts around a text")
        tokenizer.post_processor = processors.RobertaProcessing((sep, ids[sep]), (cls, ids[cls]), True, prefix)
        return tokenizer
    return _stated_ends(tokenizer, file)


CONVERTED: dict[str, Callable[[Path], Any]] = {
    "XLMRobertaTokenizer": _xlmr,
    "CamembertTokenizer": _camembert,
    "MBartTokenizer": _mbart,
    "XGLMTokenizer": _xglm,
    "T5Tokenizer": _t5,
    "PegasusTokenizer": _pegasus,
    "AlbertTokenizer": _albert,
    "XLNetTokenizer": _xlnet,
    "DebertaV2Tokenizer": _deberta,
    "LlamaTokenizer": _llama,
}
LISTED: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(("BertTokenizer", "ElectraTokenizer", "DistilBertTokenizer"), _word_pieces),
    **dict.fromkeys(("GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer"), _byte_level),
}
