"""Translation language modelling: hidden tokens of a pair of texts that say the same in two languages."""

from __future__ import annotations

from typing import Any

from trainer.descriptions.objectives.masked_lm import _Masked


class TranslationLM(_Masked):
    name = "tlm"
    help = "predict hidden tokens of a text and its translation from both (XLM); data=parallel"
    implementation = "trainer.objectives.masked:tlm"
    two_stream = False
    reads_pairs_of_languages = True

    def tells_languages(self, keys: Any) -> bool:
        return True

    def config_misfits(self, config: Any) -> list[str]:
        wrong, data = [], config.data
        if config.task.kind is None and data.name != "parallel":
            wrong.append(
                f"objective=tlm reads pairs of texts, data={data.name} has none; take data=parallel "
                "data.parallel.en=en/ data.parallel.de=de/"
            )
        if not data.boundaries:
            wrong.append("data.boundaries: objective=tlm keeps pairs apart; leave it true")
        return [*wrong, *super().config_misfits(config)]
