"""A run of ours as a model of lm-evaluation-harness (needs `pip install 'isoflop[evaluation]'`).

import trainer.evaluate.lm_eval_model
lm_eval.simple_evaluate(model="isoflop", model_args={"run": "runs/<experiment>/<id>"}, tasks=[...])
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval.models  # noqa: F401, the registry fills itself only while it is empty
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model

from trainer.evaluate.scoring import BATCH, rolling, score_tokens
from trainer.generation import Decoding
from trainer.generation.loaded_model import Trained
from trainer.generation.text import cut_at, generate
from trainer.utils.errors import UserError


@register_model("isoflop")
class IsoflopLM(TemplateLM):
    """A decoder's likelihoods and greedy continuations. Texts begin with <s>, as documents do in training."""

    def __init__(self, run: str, max_gen_toks: int | str = 256, add_bos_token: bool = True, **others: Any) -> None:
        """run: its folder. add_bos_token: false is what the harness' `hf` model does with our exported tokenizers.

        others: what the harness gives to all models (batch_size, device); the run has its own.
        """
        super().__init__()
        self.trained = Trained.load(Path(run))
        if self.trained.family != "decoder":
            raise UserError(
                f"{run}: lm-eval asks for likelihoods, which only decoders have; this is an "
                f"{self.trained.family.replace('_', '-')}"
            )
        self.max_gen_toks, self.add_bos_token = int(max_gen_toks), add_bos_token

    @property
    def eot_token_id(self) -> int:
        return self.trained.special("</s>")

    @property
    def prefix_token_id(self) -> int:
        return self.trained.special("<s>")

    @property
    def max_length(self) -> int:
        return self.trained.config.max_length

    @property
    def tokenizer_name(self) -> str:
        return self.trained.tokenizer.sha256

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        ids = self.trained.tokenizer.encode(string)
        return [self.prefix_token_id, *ids] if self.add_bos_token and add_special_tokens is not False else ids

    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = [(head, tail) for _, head, tail in requests]
        order = sorted(range(len(pairs)), key=lambda place: -sum(map(len, pairs[place])))
        found: dict[int, tuple[float, bool]] = {}
        for first in range(0, len(order), BATCH):
            places = order[first : first + BATCH]
            for place, one in zip(places, score_tokens(self.trained, [pairs[p] for p in places]), strict=True):
                found[place] = one.nats, one.greedy
        return [found[place] for place in range(len(pairs))]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        return [rolling(self.trained, request.args[0]).nats for request in requests]

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        texts = []
        for request in requests:
            context, settings = request.args
            if settings.get("do_sample") or settings.get("temperature"):
                raise UserError("generation_kwargs: answers are written greedily here; do_sample=false, temperature=0")
            until = settings.get("until") or []
            stop = [until] if isinstance(until, str) else list(until)
            tokens = int(settings.get("max_gen_toks", self.max_gen_toks))
            ids = self.tok_encode(context)[-max(1, self.max_length - tokens) :]
            [written] = generate(self.trained, [ids], Decoding(temperature=0, tokens=tokens), stop=stop)
            texts.append(cut_at(self.trained.tokenizer.decode(written), stop))
        return texts
