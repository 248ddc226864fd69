"""Every key that transformers' configuration of a type has is read, refused by its name, or changes nothing."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from trainer.hub import FAMILIES
from trainer.hub.table import read_table
from trainer.utils.errors import UserError

# What no forward pass in evaluation depends on: training, outputs, text generation, heads of tuned models, caches, and
# numerics that are the same in exact arithmetic.
HARMLESS = {
    *("transformers_version", "architectures", "_name_or_path", "model_type", "dtype", "initializer_range", "init_std"),
    *("output_hidden_states", "output_attentions", "return_dict", "use_cache", "chunk_size_feed_forward"),
    *("is_encoder_decoder", "id2label", "label2id", "problem_type", "initializer_factor", "initializer_cutoff_factor"),
    *("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "decoder_start_token_id", "forced_eos_token_id"),
    *("pad_token_id", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "attention_dropout", "hidden_dropout"),
    *("activation_dropout", "classifier_dropout", "classifier_dropout_prob", "hidden_dropout_prob", "dropout_rate"),
    *("attention_probs_dropout_prob", "embedding_dropout", "embed_dropout", "mlp_dropout", "layerdrop"),
    *("encoder_layerdrop", "qa_dropout", "seq_classif_dropout", "pooler_dropout"),
    *("unk_index", "mask_index", "mask_token_id", "lang_id", "embed_init_std", "sinusoidal_embeddings"),
    *("decoder_layerdrop", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
    *("summary_first_dropout", "summary_last_dropout", "start_n_top", "end_n_top", "classifier_pooling"),
    *("pretraining_tp", "slow_but_exact", "reorder_and_upcast_attn", "deterministic_flash_attn"),
    *("output_router_logits", "add_router_probs", "router_jitter_noise"),
    *("sparse_prediction", "sparse_pred_ignore_index", "mem_len", "reuse_len", "use_mems_eval", "use_mems_train"),
}
# Without these keys the type is one that there is none of here.
NEEDED = {"deberta-v2": {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p", "p2c"]}}
# What the classes of these types set themselves, whatever config.json says.
SET = {"bart": {"is_decoder"}, "mbart": {"is_decoder"}, "pegasus": {"is_decoder"}, "t5": {"is_decoder"}}
SET |= {kind: {"sliding_window", "max_window_layers"} for kind in ("qwen2", "qwen3", "smollm3")}  # there are none
SET |= {kind: {"sliding_window", "max_window_layers"} for kind in ("qwen2_moe", "qwen3_moe")}
SET |= {"gemma3_text": {"_sliding_window_pattern"}}  # beside layer_types
SET |= {"mt5": {"is_decoder", "tie_word_embeddings"}}
# ... and what no line of the class reads.
SET |= {
    "switch_transformers": {
        "encoder_sparse_step",
        "decoder_sparse_step",
        "is_decoder",
        "add_cross_attention",
        "router_ignore_padding_tokens",
    }
}


class Noted(dict):
    """A configuration that notes which keys are asked for."""

    def __init__(self, content):
        super().__init__(content)
        self.asked = set()

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self.asked.add(key)
        return super().__contains__(key)


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_key_is_passed_over(kind):
    plain = transformers.AutoConfig.for_model(kind, **NEEDED.get(kind, {})).to_dict()
    config = Noted(plain)
    read_table(FAMILIES[kind].table, config, lambda name: torch.zeros(1))
    assert plain.keys() - config.asked - HARMLESS - SET.get(kind, set()) == set()


@pytest.mark.parametrize("kind", FAMILIES)
def test_other_names_of_keys_are_those_of_transformers(kind):
    known = type(transformers.AutoConfig.for_model(kind)).attribute_map
    ours = FAMILIES[kind].synonyms
    assert known.items() <= ours.items() and ours.keys() - known.keys() <= {"n_embed"}


def test_two_names_of_one_key_that_differ(saved):
    from trainer.hub.reading import _by_table

    with pytest.raises(UserError, match=r"hidden_size=5 and n_embd=7 are one key"):
        _by_table({"hidden_size": 5, "n_embd": 7}, FAMILIES["gpt2"], saved("gpt2"))
