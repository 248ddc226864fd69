"""The first weights of a run that begins from another one's: taken over, fitted to its tokenizer, and written down."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from trainer.books.continued import initial_line, price_of
from trainer.books.records import read_json
from trainer.config import Config
from trainer.data import Tokenizer
from trainer.data.same_pieces import NONE, same_pieces
from trainer.models import pretraining_model
from trainer.models.model import stored_buffers
from trainer.run.upcycled import begins_as, upcycled
from trainer.run_folder import RunFolder
from trainer.training.checkpoint import save_weights
from trainer.training.chosen_weights import ChosenWeights
from trainer.training.dataset import Source
from trainer.utils.checkpoint_files import CorruptCheckpoint, folder_of, steps_in
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.which_weights import Place, Which, intact, merged_folder

TUNED = "body."  # before the names of a policy that was tuned from preferences


def write_initial(config: Config, folder: RunFolder, source: Source) -> list[str]:
    """Write `init` and lineage.json into the folder of a run that is to begin from another one's weights, once.

    Returns lines to show. Raises UserError where these weights are not there any more, or are of another model.
    """
    if config.branch.given:
        return _branched(config, folder)
    init = config.init
    made = folder.config.is_file() and (steps_in(folder.initial) or steps_in(folder.checkpoints))
    if not init.given or made:
        return []
    if init.step is None or init.weights is None:
        raise UserError("init: names no checkpoint yet; isoflop.compose(['init=<run>', ...]) finds it")
    parent = RunFolder(Path(str(init.run)))
    chosen = _chosen(parent, Which(init.step, init.average), init.weights)
    before = parent.load_config()
    tokenizer, copied = Path(source.tokenizer_file), config.model.experts.count and not before.model.experts.count
    weights, rows = fitted(_plain(chosen), before, config, parent.tokenizer, tokenizer)
    lineage = {
        "run": f"{parent.path.parent.name}/{parent.path.name}",
        "path": str(parent.path),
        "step": init.step,
        "average": init.average,
        "science_hash": before.science_hash(),
        "weights": init.weights,
        "rows": rows,  # null: the tokenizer is the parent's
        "experts": config.model.experts.count if copied else None,  # of a layer, copies of the parent's feed-forward
        "price": price_of(parent.path),
        "lineage": read_json(parent.lineage),  # of the parent itself
    }
    write_atomic(folder.lineage, json.dumps(lineage, indent=1))
    write_atomic(folder.tokenizer, tokenizer.read_bytes())  # the configuration may name the parent's
    facts = {"science": config.science_hash(), "data": source.fingerprint, "best": {}}
    save_weights(folder.initial, weights, facts)
    return [f"init: {initial_line(lineage)}", *([f"init: {begins_as(config)}"] if copied else [])]


def _branched(config: Config, folder: RunFolder) -> list[str]:
    """Of a branch: the weights come with its trunk's state, and whose the trunk began from is said of it too."""
    trunk = RunFolder(Path(str(config.branch.run)))
    if trunk.lineage.is_file() and not folder.lineage.is_file():
        write_atomic(folder.lineage, trunk.lineage.read_bytes())
    return [f"branch: of {trunk.path.parent.name}/{trunk.path.name} at step {config.branch.step}"]


def fitted(
    weights: dict[str, Tensor], before: Config, config: Config, old: Path, new: Path
) -> tuple[dict[str, Tensor], dict[str, int] | None]:
    """A parent's weights by the names and in the shapes of this run's model, and what became of the embedding's rows:
    null where both have the same tokenizer and as many rows.

    Where a row's piece is new it is the mean of the parent's rows that have a piece. Raises UserError where a weight is
    missing or of another shape.
    """
    wanted = _shapes(config, config.vocabulary)
    wider = _shapes(config, config.vocabulary + 1)
    weights = upcycled(weights, config)
    by_row = [name for name in wanted if wanted[name] != wider[name]]  # what grows with the vocabulary
    missing = [name for name in wanted if name not in weights]
    if missing:
        raise UserError(f"init: {config.init.run}: has no weights for {', '.join(missing[:3])}")
    taken = {name: weights[name] for name in wanted}
    rows: dict[str, int] | None = None
    if (config.init.tokenizer is None and old.is_file()) or config.vocabulary != before.vocabulary:
        source, pieces = _sources(before, config, old, new)
        taken |= {name: _with_rows(weights[name], source, pieces) for name in by_row}
        known = int((source != NONE).sum())
        rows = {"all": config.vocabulary, "by_piece": known, "new": config.vocabulary - known}
    for name, value in taken.items():
        if value.shape != wanted[name]:
            raise UserError(f"init: {name} of {config.init.run} is {list(value.shape)}, {list(wanted[name])} wanted")
    return taken, rows


def _sources(before: Config, config: Config, old: Path, new: Path) -> tuple[Tensor, int]:
    """For each row of the new embedding the old row of the same piece, or NONE; and the old rows that have a piece."""
    source = torch.full((config.vocabulary,), NONE)
    if config.init.tokenizer is not None or not old.is_file():  # the same ids
        shared = min(config.vocabulary, before.vocabulary)
        source[:shared] = torch.arange(shared)
        return source, before.vocabulary
    theirs = Tokenizer(old, before.tokenizer.special_ids)
    found = same_pieces(theirs, Tokenizer(new, config.tokenizer.special_ids))
    source[: len(found)] = torch.tensor(found)
    return source, theirs.vocabulary


def _with_rows(old: Tensor, source: Tensor, pieces: int) -> Tensor:
    """The rows of a matrix or the elements of a bias in a new order; those without a source are the mean of the first
    `pieces`."""
    mean = old[:pieces].mean(0)
    chosen = old[source.clamp(min=0)]
    there = (source != NONE).view(-1, *[1] * (old.dim() - 1))
    return torch.where(there, chosen, mean)


def _shapes(config: Config, vocabulary: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = pretraining_model(config.model, vocabulary, config.max_length)
    return {name: one.shape for name, one in [*model.named_parameters(), *stored_buffers(model).items()]}


def _plain(chosen: ChosenWeights) -> dict[str, Tensor]:
    """The weights by the names of pre-training."""
    return {name.removeprefix(TUNED): value for name, value in chosen.weights().items()}


def _chosen(parent: RunFolder, which: Which, weights: str) -> ChosenWeights:
    """Those of the parent, as they were when the run was composed. Raises UserError."""
    average, folder = which.average, folder_of(parent.checkpoints, which.step or 0)
    if average is not None and (merged := merged_folder(parent.path, average)).is_dir():
        average, folder = None, merged
    if not folder.is_dir():
        raise UserError(f"init: {folder} is not there any more; name a run that is: init=<run>")
    try:
        place = Place(folder, intact(folder, average), average)
    except CorruptCheckpoint as error:
        raise UserError(f"init: {folder} is damaged ({error}); name another one: init=<run>@<step>") from None
    if place.digest != weights:
        raise UserError(f"init: {folder} holds other weights than this run is to begin from ({weights[:12]})")
    return ChosenWeights.of(place)
