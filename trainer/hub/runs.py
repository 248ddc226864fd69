"""The two verbs: a checkpoint of the hub becomes a run folder, a run folder becomes a checkpoint of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from trainer.config import Config, TokenizerConfig
from trainer.config.model import ModelConfig
from trainer.config.science import SpecialIdsConfig
from trainer.data import Tokenizer
from trainer.hub.bert import PLACES_BEHIND_PAD
from trainer.hub.card import Exported, model_card
from trainer.hub.check import ALLOWED, compare
from trainer.hub.exchange import AsItCame, type_of, write_checkpoint
from trainer.hub.family import Family
from trainer.hub.files import copy_beside, new_folder, read_json
from trainer.hub.heads import is_of_pretraining, new_head, plain_names
from trainer.hub.reading import SEED, Imported, read_checkpoint
from trainer.hub.special_ids import second_type, special_ids, stated_keys
from trainer.hub.stated import Stated
from trainer.hub.tokenizer import framing_of, write_tokenizer
from trainer.hub.unscaled import plain_model, unscaled
from trainer.run_folder import RunFolder
from trainer.tasks.formats import CHAT_TEMPLATE
from trainer.tokenizer_files import find_tokenizer, is_json, tokenizer_file, unread
from trainer.training.checkpoint import save_weights
from trainer.training.chosen_weights import chosen_weights
from trainer.utils.errors import UserError
from trainer.utils.files import write_synced
from trainer.utils.which_weights import NEWEST, Which


def import_run(source: Path, target: Path, generator: Path | None = None, *, check: bool = False) -> dict[str, Any]:
    """Make the run folder `target` of a checkpoint of transformers: config.yaml, a checkpoint of step 0, the tokenizer.

    The folder can be generated from, evaluated, exported, and trained on. Returns facts to print; with `check` those of
    a comparison with transformers too, see `trainer.hub.check`.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; import takes a downloaded checkpoint, or hub:<owner>/<name>")
    imported = read_checkpoint(source, generator)
    tokenizer = find_tokenizer(source)
    opened = Tokenizer(tokenizer) if tokenizer else None
    rows, pieces = imported.model.vocabulary or 0, opened.vocabulary if opened else 0
    if pieces > rows:
        raise UserError(f"{tokenizer}: {pieces} pieces, and vocab_size in config.json is {rows}: not of this model")
    ids = special_ids(source, opened, rows, imported.model.family)
    if opened is not None and imported.model.token_types > 1:
        ids = ids.model_copy(update={"second_type": second_type(source, opened)})
    config = config_of(imported, (target / "tokenizer.model").absolute() if tokenizer else None, ids)
    with new_folder(target.absolute()) as aside:
        folder = RunFolder(aside)
        folder.config.write_text(config.to_yaml())
        if opened is not None:
            folder.tokenizer.write_bytes(opened.model)
        copy_beside(source, folder.hub)
        facts = {"science": config.science_hash(), "data": "", "best": {}, "imported": str(source)}
        facts |= {"drawn": list(imported.drawn)} if imported.drawn else {}
        save_weights(folder.checkpoints, imported.weights, facts)
    difference = compare(source, target, imported) if check else None
    return {
        "run": str(target),
        "model": config.model.name,
        "type": type_of(imported.model).type,
        "parameters": sum(value.numel() for value in imported.weights.values()),
        "tokenizer": str(tokenizer) if tokenizer else unread(source),
        **({"unused": f"{rows - pieces} rows of {rows} have no piece"} if opened and pieces < rows else {}),
        **_new_parts(imported),
        **({"check": str(difference), "exact": difference.relative <= ALLOWED} if difference else {}),
    }


def import_tokenizer(source: Path, target: Path) -> dict[str, Any]:
    """Make the folder `target` of a tokenizer alone, a file or a folder without weights: what `tokenizer.path` takes.

    Returns facts to print. Raises UserError where there is no tokenizer, or one that ends no documents.
    """
    opened = Tokenizer(tokenizer_file(source))
    described = is_json(opened.model)
    with new_folder(target.absolute()) as aside:
        write_synced(aside / ("tokenizer.json" if described else "tokenizer.model"), opened.model)
    return {"tokenizer": str(target), "pieces": opened.vocabulary, "use": f"tokenizer.path={target}"}


def holds_weights(source: Path) -> bool:
    """Whether a folder is meant as a model's: it has weights, or a configuration of a model and no tokenizer."""
    weights = [file for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth") for file in source.glob(pattern)]
    index = (source / "model.safetensors.index.json").is_file()
    return bool(weights) or index or find_tokenizer(source) is None


def _new_parts(imported: Imported) -> dict[str, Any]:
    """What of the model is not as any checkpoint of its type: parts that were drawn, a head of tuning."""
    facts: dict[str, Any] = {}
    if imported.drawn:
        inside = [name for name in imported.drawn if name.startswith("replaced.generator")]
        what = "an ELECTRA generator" if inside else f"the head of pre-training ({', '.join(imported.drawn)})"
        facts["new"] = f"{what}: the folder has none, it is drawn with seed {SEED}; train before you use it"
    if imported.task:
        labels = ", ".join(imported.task.get("labels", ())) or "a score"
        facts["task"] = f"{imported.task['kind']}: {labels}; to evaluate, name its records in config.yaml (task.train)"
    return facts


def config_of(imported: Imported, tokenizer: Path | None, ids: SpecialIdsConfig | None = None) -> Config:
    """The configuration of an imported run. Raises UserError where the model is none that a run can have."""
    model = imported.model
    vocabulary = min(TokenizerConfig().vocabulary, model.vocabulary or 0)
    own: dict[str, Any] = {"vocabulary": vocabulary} if vocabulary >= 300 else {"path": "not-given.model"}
    plain = {
        "model": model.model_dump(mode="json"),
        "objective": _objective_of(model),
        **({"task": imported.task} if imported.task else {}),
        "tokenizer": {
            **({"path": str(tokenizer)} if tokenizer else own),
            **({"special_ids": ids.model_dump(mode="json")} if ids else {}),
        },
        "data": {"sequence_length": max(8, min(256, model.max_length or 256))},
    }
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        said = [one["msg"].removeprefix("Value error, ") for one in error.errors()]
        lines = [f"{imported.folder / 'config.json'}: as a run: {one}" for one in said]
        raise UserError("\n".join(lines)) from None


def _objective_of(model: ModelConfig) -> dict[str, Any]:
    """What transformers' models of this kind are pre-trained with, for runs that go on with one."""
    if model.two_stream:
        return {"name": "permuted_lm"}
    if model.generator_width:
        return {"name": "replaced_token"}
    if (kind := type_of(model).type) in ("bart", "pegasus"):
        return {"name": "bart", "noises": ["text_infilling"]} if kind == "bart" else {"name": "gap_sentences"}
    return {"name": {"decoder": "causal", "encoder": "masked_lm", "encoder_decoder": "span_corruption"}[model.family]}


def _beside_the_pad(
    model: ModelConfig, weights: dict[str, Tensor], family: Family, pad: int | None
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Position 0 of RoBERTa and its kind stands in the row behind the pad token's id: move the table to where
    transformers looks."""
    if PLACES_BEHIND_PAD not in family.table or pad is None or model.position_offset == pad + 1:
        return model, weights
    table = weights["positions.weight"][model.position_offset :]
    moved = torch.cat((table.new_zeros(pad + 1, table.shape[1]), table))
    return model.model_copy(update={"position_offset": pad + 1}), weights | {"positions.weight": moved}


def _as_it_came(folder: RunFolder, *, tuned: bool) -> AsItCame | None:
    """What the folder of transformers said that the run was imported from, if it was."""
    config, generation = (folder.hub / name for name in ("config.json", "generation_config.json"))
    if not config.is_file():
        return None
    return AsItCame(read_json(config), read_json(generation) if generation.is_file() else None, tuned)


def _without_untrained(config: Config, model: ModelConfig, *, imported: bool) -> ModelConfig:
    """The model without what tuning took off, and without what no training has touched: a sentence head of which no
    label was asked, and the pooler that nothing else reads. What an imported model came with stays."""
    labelled = config.task.kind is None and config.objective.description.labels_pairs(config.objective)
    if config.task.outputs:
        return model.model_copy(update={"generator_width": None})
    if model.pooler != "pretraining" or (model.sentence_head and (labelled or imported)):
        return model
    return model.model_copy(update={"pooler": "none", "sentence_head": False})


def _special_keys(config: Config, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The special tokens of a run by their names in config.json and generation_config.json."""
    given = dict(stated_keys(config.tokenizer.special_ids))
    if given or tokenizer is None:
        return given
    ids = {"bos_token_id": "<s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"}
    found = {name: tokenizer.specials[piece] for name, piece in ids.items() if piece in tokenizer.specials}
    if config.model.family == "encoder_decoder":
        found["decoder_start_token_id"] = tokenizer.start
    return found


def export_run(
    run: Path, target: Path, *, tokenizer: bool = True, stated: Stated | None = None, which: Which = NEWEST
) -> dict[str, Any]:
    """Write the newest intact checkpoint of a run, or the weights that are meant, as a checkpoint of transformers, with
    its tokenizer and a model card.

    stated: what the card says beside what the run knows. Returns facts to print. Raises UserError where there is no
    checkpoint, or no such model in transformers.
    """
    folder = RunFolder(run)
    config = folder.load_config()
    model = config.model.model_copy(update={"vocabulary": config.vocabulary, "max_length": config.max_length})
    chosen = chosen_weights(run, which)
    checkpoint = chosen.checkpoint
    drawn = checkpoint.manifest.get("drawn", ())
    if not any(map(is_of_pretraining, drawn)):  # a body keeps its pooler
        model = _without_untrained(config, model, imported=folder.hub.is_dir())
    scaled, model = model, plain_model(model)
    family = type_of(model)
    with_tokenizer = tokenizer and folder.tokenizer.is_file()
    opened = Tokenizer(folder.tokenizer, config.tokenizer.special_ids) if folder.tokenizer.is_file() else None
    pieces, came = (
        opened.specials if opened else {},
        _as_it_came(folder, tuned=config.task.kind is not None or config.init.given),
    )
    special = _special_keys(config, opened)
    head = new_head(config, family.type)
    weights = unscaled(scaled, plain_names(chosen.weights()), heads=head is None)
    model, weights = _beside_the_pad(model, weights, family, special.get("pad_token_id"))
    converses = config.task.description is not None and config.task.description.converses and config.task.chat
    converses = converses or any(one.converses for one in config.data.tasks.values())
    # What the encoder of an encoder-decoder reads has no separator, and no turns.
    chat = CHAT_TEMPLATE if converses and "<sep>" in pieces and config.model.family == "decoder" else None
    said: tuple[str, ...] = ()
    with new_folder(target.absolute()) as aside:
        write_checkpoint(aside, model, weights, special, head, came, drawn)
        architecture = str(read_json(aside / "config.json")["architectures"][0])
        if with_tokenizer and came is not None:
            copy_beside(folder.hub, aside, without=("config.json", "generation_config.json"))
        elif with_tokenizer and opened is not None:
            said = write_tokenizer(aside, folder.tokenizer, chat, framing_of(config, opened))
        exported = Exported(
            run, config, checkpoint, architecture, with_tokenizer, stated or Stated(), said, which.average
        )
        (aside / "README.md").write_text(model_card(exported))
    return {
        "folder": str(target),
        "type": family.type,
        "step": checkpoint.step,
        **({} if which.average is None else {"average": which.average}),
        "tokenizer": with_tokenizer,
    }
