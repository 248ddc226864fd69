"""XLM (Lample and Conneau 2019)."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.config.model import ModelConfig
from trainer.hub.family import Entry, Family, both
from trainer.hub.table import (
    Always,
    Dropouts,
    Fields,
    Given,
    Key,
    Only,
    Several,
    Words,
    Written,
    sizes,
    table_in,
    whole,
    yes_or_no,
)
from trainer.utils.errors import UserError


def _read_languages(given: Given) -> Fields:
    """The languages that have a row each: by lang2id, else by their numbers; none where the model is told none."""
    count, used = whole(given.config, "n_langs", 1), yes_or_no("use_lang_emb", given.config.get("use_lang_emb", True))
    if count == 1 or not used:
        return {"languages": ()}
    named = table_in(given.config, "lang2id") or {str(number): number for number in range(count)}
    rows = {row: name for name, row in named.items() if isinstance(row, int) and not isinstance(row, bool)}
    if sorted(rows) != list(range(count)) or len(named) != count:
        raise UserError(
            f"config.json: lang2id names {len(named)} languages; one for each row from 0 to {count - 1} is wanted, as "
            f"n_langs={count} has"
        )
    return {"languages": tuple(rows[row] for row in range(count))}


def _write_languages(model: ModelConfig) -> Fields:
    names = dict(enumerate(model.languages))
    told = {"lang2id": {name: row for row, name in names.items()}, "id2lang": {str(row): n for row, n in names.items()}}
    named = any(str(row) != name for row, name in names.items())
    return {"n_langs": max(1, len(names)), "use_lang_emb": bool(names), **(told if named else {})}


def _read_ffn(given: Given) -> Fields:
    """Four times the width: config.json has no key for it."""
    return {"ffn_width": 4 * given.fields["width"]}


TABLE = (
    Only({"causal": False, "asm": False, "is_encoder": True}, written=True),
    Always({"family": "encoder", "gated": False, "norm": "layernorm", "norm_position": "post", "position": "learned"}),
    Always({"embedding_norm": True, "bias": True, "head_bias": True}),
    *sizes("vocab_size", "emb_dim", "n_layers", "n_heads"),
    Several(_read_ffn),
    Key("activation", "gelu_activation", True, Words({True: "gelu", False: "relu"})),
    Key("norm_epsilon", "layer_norm_eps", 1e-12),
    # Also where it is a table of sinusoids: transformers reads it from the checkpoint all the same.
    Key("max_length", "max_position_embeddings", 512),
    Several(_read_languages, _write_languages),
    Key("tied", "tie_word_embeddings", True),
    Dropouts(("dropout",), ("attention_dropout",)),
    Written("init_std", "init_std"),
    Written("init_std", "embed_init_std"),
)
LAYER = (
    ("attentions.{}.q_lin", "attention.query"),
    ("attentions.{}.k_lin", "attention.key"),
    ("attentions.{}.v_lin", "attention.value"),
    ("attentions.{}.out_lin", "attention.output"),
    ("layer_norm1.{}", "attention_norm"),
    ("ffns.{}.lin1", "feed_forward.up"),
    ("ffns.{}.lin2", "feed_forward.down"),
    ("layer_norm2.{}", "feed_forward_norm"),
)


def _entries(model: ModelConfig) -> Iterator[Entry]:
    yield Entry("transformer.embeddings.weight", ("tokens.weight",))
    yield Entry("transformer.position_embeddings.weight", ("positions.weight",))
    if model.languages:
        yield Entry("transformer.lang_embeddings.weight", ("languages.weight",))
    yield from both("transformer.layer_norm_emb", "embedding_norm")
    for i in range(model.depth):
        for theirs, ours in LAYER:
            yield from both(f"transformer.{theirs.format(i)}", f"blocks.{i}.{ours}")
    yield Entry("pred_layer.proj.bias", ("head.output.bias",))
    if not model.tied:
        yield Entry("pred_layer.proj.weight", ("head.output.weight",))


XLM = Family(
    "xlm",
    "XLMWithLMHeadModel",
    TABLE,
    _entries,
    aliases=(("pred_layer.proj.weight", "transformer.embeddings.weight"),),
    prefix="transformer.",
    synonyms={
        **{"hidden_size": "emb_dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
        **{"n_words": "vocab_size", "bos_index": "bos_token_id", "eos_index": "eos_token_id"},
        "pad_index": "pad_token_id",
    },
    ignored=(r"position_ids$",),
)
