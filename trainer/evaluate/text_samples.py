"""Text that a model writes as it learns: the same prompts again and again, for people to read.

Decoders continue a prompt, encoders fill its <mask>s, encoder-decoders do what they are trained for: they restore a
text with <mask>s, or answer one. It touches no random number of the training.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, islice, zip_longest
from pathlib import Path

from trainer.config import Config
from trainer.config.samples import MASK
from trainer.data import Tokenizer
from trainer.evaluate.in_loop import trained_in_loop
from trainer.evaluate.passages import held_out_passages
from trainer.generation import Decoding, answer_prompts
from trainer.generation.loaded_model import Trained, writer_of
from trainer.tasks import Task
from trainer.trackers.records import TextSample
from trainer.trackers.tracker import brief
from trainer.training.dataset import Source, text_of
from trainer.training.engine import Engine, whole_model

HIDDEN_EVERY = 4  # words of a held-out text, of which one is hidden


class TextSamples:
    """Samples of the model of an engine. Called on every rank; ranks share the prompts out."""

    def __init__(self, config: Config, run: Path, source: Source, engine: Engine) -> None:
        self.config, self.run, self.source, self.engine = config, run, source, engine
        self.world = engine.world if engine.world.size > 1 else None
        self.tokenizer = Tokenizer(source.tokenizer_file, config.tokenizer.special_ids)
        samples = config.tracker.samples
        self.decoding = Decoding(tokens=samples.tokens, temperature=samples.temperature, seed=samples.seed)
        self.prompts: list[str] | None = None  # not known yet

    def __call__(
        self, step: int, tokens: int, progress: Callable[[], None] = lambda: None
    ) -> tuple[list[TextSample], list[str]]:
        """After `step` updates on so many tokens: what was written, and a line for each prompt where it was not. All
        ranks have both."""
        with whole_model(self.engine) as model:
            plain = Trained(self.run, step, self.config, writer_of(model), self.tokenizer, None, self.world, progress)
            trained = trained_in_loop(plain)
            if self.prompts is None:
                self.prompts = self._prompts(trained)
            found = trained.divided(self.prompts, lambda prompt: self._written(trained, prompt))
        pairs = zip(self.prompts, found, strict=True)
        texts = [TextSample(step, tokens, prompt, one["text"]) for prompt, one in pairs if "text" in one]
        return texts, [one["wrong"] for one in found if "wrong" in one]

    def _written(self, trained: Trained, prompt: str) -> dict[str, str]:
        """Plain data; what is raised on one rank alone would leave the others waiting."""
        trained.progressed()
        try:
            [written] = answer_prompts(trained, [prompt], self.decoding)
        except Exception as error:
            return {"wrong": brief(error)}
        return {"text": written.text}

    def _prompts(self, trained: Trained) -> list[str]:
        """As they were given, else made of held-out texts."""
        samples = self.config.tracker.samples
        if samples.prompts:
            return list(samples.prompts)
        if isinstance(self.source, Task):
            exchanges = (one.templates.render(one.record, number)[0] for number, one in enumerate(self.source.held_out))
            return list(islice((text for text in exchanges if isinstance(text, str)), samples.held_out))
        text = text_of(self.source)
        passages: list[list[list[int]]] = [] if text is None else [*held_out_passages(trained, text).values()]
        in_turn = (one for one in chain.from_iterable(zip_longest(*passages)) if one is not None)
        beginnings = [
            trained.tokenizer.decode(one[: samples.prompt_tokens]) for one in islice(in_turn, samples.held_out)
        ]
        return [hidden(one) for one in beginnings] if self._fills(trained) else beginnings

    def _fills(self, trained: Trained) -> bool:
        """Whether filling gaps is what the model is trained for, rather than going on."""
        tuned, infills = self.config.task.kind is not None, self.config.objective.description.infills
        return trained.family != "decoder" and not tuned and infills is not None


def hidden(text: str) -> str:
    """A text with <mask> in place of its fourth word, of its eighth, and so on; of its last where it is shorter."""
    words = text.split(" ")
    places = range(HIDDEN_EVERY - 1, len(words), HIDDEN_EVERY) or [len(words) - 1]
    return " ".join(MASK if place in places else word for place, word in enumerate(words))
