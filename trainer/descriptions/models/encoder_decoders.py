"""BART, T5 and their kin."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (
    ModelFamily("BART", "Lewis et al. 2020", ("bart-*",), ("bart",)),
    ModelFamily("mBART", "Liu et al. 2020; Tang et al. 2020", ("mbart-*",), ("mbart",)),
    ModelFamily("MASS", "Song et al. 2019", ("mass-*",), ("mass",)),
    ModelFamily("T5", "Raffel et al. 2020", ("t5-*",), ("span_corruption",)),
    ModelFamily("T5 v1.1", "Raffel et al. 2020", ("t5v1.1-*",), ("span_corruption",)),
    ModelFamily("FLAN-T5", "Chung et al. 2022", ("flan-t5-*",), ("span_corruption",)),
    ModelFamily("mT5", "Xue et al. 2021", ("mt5-*",), ("span_corruption",)),
    ModelFamily("ByT5", "Xue et al. 2022", ("byt5-*",), ("byt5",)),
    ModelFamily("PEGASUS", "Zhang et al. 2020", ("pegasus-*",), ("gap_sentences",)),
    ModelFamily("UL2", "Tay et al. 2023", ("ul2-*", "flan-ul2-*"), ("ul2",)),
    ModelFamily("Aya 101", "Üstün et al. 2024", ("aya-101",), ("span_corruption",)),
)
