"""Every `model_type` that is exchanged, by its name."""

from __future__ import annotations

from trainer.hub.bert import ALBERT, BERT, CAMEMBERT, ELECTRA, ROBERTA, XLMR, XLMR_XL
from trainer.hub.cohere import COHERE
from trainer.hub.deberta import DEBERTA
from trainer.hub.distilbert import DISTILBERT
from trainer.hub.fairseq import BART, MBART, OPT, XGLM
from trainer.hub.gemma import GEMMA, GEMMA2, GEMMA3
from trainer.hub.gpt import BLOOM, GPT, GPT2, NEOX
from trainer.hub.gpt_neo import GPT_NEO
from trainer.hub.llama import (
    LLAMA,
    MISTRAL,
    MIXTRAL,
    OLMO,
    OLMO2,
    OLMO3,
    OLMOE,
    QWEN2,
    QWEN2_MOE,
    QWEN3,
    QWEN3_MOE,
    SMOLLM3,
)  # fmt: skip
from trainer.hub.modernbert import MODERNBERT
from trainer.hub.pegasus import PEGASUS
from trainer.hub.switch import SWITCH
from trainer.hub.t5 import MT5, T5
from trainer.hub.xlm import XLM
from trainer.hub.xlnet import XLNET

FAMILIES = {
    family.type: family
    for family in (
        *(GPT2, GPT, NEOX, LLAMA, OLMO, OLMO2, MISTRAL, QWEN2, QWEN3, SMOLLM3, OPT, BLOOM, XGLM),
        *(GPT_NEO, OLMO3, GEMMA, GEMMA2, GEMMA3, COHERE, MIXTRAL, OLMOE, QWEN2_MOE, QWEN3_MOE),
        *(BERT, DISTILBERT, ROBERTA, CAMEMBERT, XLMR, XLMR_XL, ALBERT, ELECTRA, XLNET, MODERNBERT, DEBERTA, XLM),
        *(BART, MBART, PEGASUS, T5, MT5, SWITCH),
    )
}
# Special tokens as config.json names them.
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
# What some types name a second time; left out, transformers takes places in the published model's vocabulary.
OTHER_NAMES = {"modernbert": {"cls_token_id": "bos_token_id", "sep_token_id": "eos_token_id"}}
