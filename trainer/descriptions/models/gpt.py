"""GPT and what was built as it is."""

from __future__ import annotations

from trainer.descriptions.models import ModelFamily

FAMILIES = (
    ModelFamily("GPT", "Radford et al. 2018", ("gpt",), ("causal",)),
    ModelFamily("GPT-2", "Radford et al. 2019", ("gpt2-*", "gpt-mini"), ("causal",)),
    ModelFamily(
        "GPT-3",
        "Brown et al. 2020",
        ("gpt3-*",),
        ("causal",),
        lacks="sparse layers, unless model.window=255 model.global_every=2",
    ),
    ModelFamily("GPT-Neo", "Black et al. 2021", ("gpt-neo-*",), ("causal",)),
    ModelFamily("Turing-NLG", "Rosset 2020", ("t-nlg-*",), ("causal",)),
    ModelFamily("LaMDA", "Thoppilan et al. 2022", ("lamda-*",), ("causal",), lacks="its vocabulary"),
    ModelFamily("Cerebras-GPT", "Dey et al. 2023", ("cerebras-gpt-*",), ("causal",)),
    ModelFamily("Pythia", "Biderman et al. 2023", ("pythia-*",), ("causal",)),
    ModelFamily("OPT", "Zhang et al. 2022", ("opt-*",), ("causal",)),
    ModelFamily("BLOOM", "Scao et al. 2022", ("bloom-*",), ("causal",)),
    ModelFamily("XGLM", "Lin et al. 2022", ("xglm-*",), ("causal",)),
)
