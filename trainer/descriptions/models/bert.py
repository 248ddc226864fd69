"""BERT and its kin."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (
    ModelFamily("BERT", "Devlin et al. 2019", ("bert-*", "mbert"), ("bert",)),
    ModelFamily(
        "DistilBERT", "Sanh et al. 2019", ("distilbert-*",), ("masked_lm",), lacks="distillation from a teacher"
    ),
    ModelFamily("RoBERTa", "Liu et al. 2019", ("roberta-*",), ("masked_lm",)),
    ModelFamily("CamemBERT", "Martin et al. 2020", ("camembert-*",), ("whole_word",)),
    ModelFamily("XLM-R", "Conneau et al. 2020; Goyal et al. 2021", ("xlmr-*",), ("masked_lm",), types=("xlm-roberta",)),
    ModelFamily("ALBERT", "Lan et al. 2020", ("albert-*",), ("albert",)),
    ModelFamily("ELECTRA", "Clark et al. 2020", ("electra-*",), ("replaced_token",)),
    ModelFamily("XLNet", "Yang et al. 2019", ("xlnet-*",), ("permuted_lm",)),
    ModelFamily("ModernBERT", "Warner et al. 2024", ("modernbert-*",), ("masked_lm",)),
)
