"""A trained model from its run folder: plain torch, no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from trainer.config import Config
from trainer.data import Tokenizer
from trainer.descriptions.objectives import OBJECTIVES
from trainer.descriptions.objectives.languages import missing_languages
from trainer.meter import gpu_of
from trainer.meter.costs import uses
from trainer.models import Model, build, load_weights
from trainer.models.model import stored_buffers
from trainer.models.preference import PolicyAndReference
from trainer.run_folder import RunFolder
from trainer.training.chosen_weights import chosen_weights
from trainer.training.distributed import World
from trainer.training.initial_weights import parent_weights
from trainer.utils.errors import UserError, nearest
from trainer.utils.which_weights import NEWEST, Which


def load_model(
    run: Path, config: Config | None = None, which: Which = NEWEST
) -> tuple[Model | PolicyAndReference, Config, int]:
    """The model of the newest intact checkpoint, or of the weights that are meant, in evaluation mode, the run's
    configuration and the checkpoint's step.

    Raises UserError when there is no intact checkpoint, step or average of that name."""
    folder = RunFolder(run)
    config = config or folder.load_config()
    chosen = chosen_weights(run, which)
    if not torch.cuda.is_available() or config.engine.device == "cpu":
        device = "cpu"
    else:
        device = "cuda"
    uses(gpu_of(torch.device(device)))
    with torch.device(device):
        model = build(config)
    frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
    held, trained = stored_buffers(model), stored_buffers(model, trained=True)
    frozen += [name for name in held if name not in trained]
    missing = {*dict(model.named_parameters()), *held} - set(frozen) - set(chosen.shapes)
    if missing:
        raise UserError(f"{chosen.folder}: has no weights for {', '.join(sorted(missing)[:3])}")
    known = parent_weights(config, beginning=False)  # what is not learned is the parent's
    load_weights(model, {**chosen.weights(), **{name: _given(known(name)) for name in frozen}})
    return model.eval().to(device), config, chosen.step


def _given(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def writer_of(model: Model | PolicyAndReference) -> Model:
    """What writes and scores texts."""
    return model.policy if isinstance(model, PolicyAndReference) else model


Unit = TypeVar("Unit")


@dataclass(frozen=True)
class Trained:
    """A trained model with its tokenizer."""

    run: Path
    step: int  # of its checkpoint
    config: Config
    model: Model
    tokenizer: Tokenizer
    language: str | None = None  # of its texts, where the model reads a token of it
    world: World | None = None  # the ranks that all have this model, and share out what it is asked
    progressed: Callable[[], None] = lambda: None  # told now and then that it has not stopped

    @classmethod
    def load(cls, run: Path, which: Which = NEWEST) -> Trained:
        """From the newest intact checkpoint of a run, or from the weights that are meant. Raises UserError when there
        are none, or no tokenizer."""
        folder = RunFolder(run)
        if not folder.tokenizer.is_file():
            raise UserError(f"{run}: has no tokenizer, so no text can be read or written")
        model, config, step = load_model(run, which=which)
        if config.task.outputs:
            raise UserError(f"{run}: was tuned with task.kind={config.task.kind}; it scores text and writes none")
        return cls(run, step, config, writer_of(model), Tokenizer(folder.tokenizer, config.tokenizer.special_ids))

    def divided(self, units: Sequence[Unit], work: Callable[[Unit], Any]) -> list[Any]:
        """What `work` makes of each unit, in their order: plain data, as JSON has it. Where ranks share them out, each
        unit is one rank's alone, so that what comes of it is the same at any number of ranks. Collective."""
        if self.world is None:
            return [work(unit) for unit in units]
        rank, size = self.world.rank, self.world.size
        shares = self.world.gather([work(unit) for unit in units[rank::size]])
        return [shares[number % size][number // size] for number in range(len(units))]

    @property
    def family(self) -> str:
        """decoder, encoder or encoder_decoder."""
        return self.config.model.family

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def reads_language(self) -> bool:
        """Whether its texts have a token of their language: after pre-training on many languages, not after tuning."""
        return self.config.objective.description.reads_languages and self.config.task.kind is None

    @property
    def language_row(self) -> int | None:
        """The row of `model.languages` that its texts are of; null: it is told none."""
        known = self.config.model.languages
        return known.index(self.language) if self.language is not None and self.language in known else None

    def for_language(self, language: str | None) -> Trained:
        """The same for texts of a language. None: of the one language of the run's sources, where it reads one; a
        model with `model.languages` is then told none.

        Raises UserError where the sources have several languages and none is named, where they do not have the named
        one, and where the model reads none.
        """
        if self.config.model.languages and self.config.task.kind is None:
            if wrong := missing_languages([language] if language else [], self.config.model.languages, "language"):
                raise UserError(wrong[0])
            return replace(self, language=language)
        stated = {one.language for one in self.config.data.sources.values() if one.language}
        known = sorted(stated | set(self.config.data.parallel))
        if not self.reads_language:
            if language is not None:
                readers = " and ".join(name for name, one in OBJECTIVES.items() if one.reads_languages)
                raise UserError(
                    f"language: only objective={readers} and model.languages read one, {self.run.name} is no such run"
                )
            return self
        if language is None and len(known) == 1:
            return replace(self, language=known[0])
        if language not in known:
            given = "none" if language is None else repr(language)
            hint = nearest(language or "", known)
            raise UserError(f"language: {given} given, {self.run.name} was trained on {', '.join(known)}{hint}")
        return replace(self, language=language)

    @property
    def opening(self) -> int:
        """The token that a decoder reads first: its language, or what its tokenizer has for that."""
        if self.reads_language:
            return self.special(f"<{self.for_language(self.language).language}>")
        return self.tokenizer.start if self.family == "encoder_decoder" else self.special("<s>")

    def special(self, piece: str) -> int:
        """The id of a special token. Raises UserError when the tokenizer has none."""
        if piece not in self.tokenizer.specials:
            raise UserError(f"{self.run}: its tokenizer has no {piece}")
        return self.tokenizer.specials[piece]

    def rows(self, texts: list[list[int]], *, left: bool = False) -> tuple[Tensor, Tensor]:
        """Tokens and segments [B, longest], int64, padded on the right or on the left: segments 0, and -1 there."""
        longest = max(map(len, texts))
        tokens = torch.full((len(texts), longest), self.special("<pad>"), device=self.device)
        segments = torch.full_like(tokens, -1)
        for row, ids in enumerate(texts):
            where = slice(longest - len(ids), None) if left else slice(0, len(ids))
            tokens[row, where] = torch.tensor(ids, dtype=torch.int64, device=self.device)
            segments[row, where] = 0
        return tokens, segments
