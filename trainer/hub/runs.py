"""The two verbs: a checkpoint of the hub becomes a run folder, a run folder becomes a checkpoint of the hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config import Config, TokenizerConfig
from trainer.config.model import ModelConfig
from trainer.config.tokenizer_file import FILES as TOKENIZER_FILES
from trainer.data import Tokenizer
from trainer.hub.card import model_card
from trainer.hub.exchange import Imported, read_checkpoint, type_of, write_checkpoint
from trainer.hub.files import new_folder
from trainer.hub.heads import new_head, plain_names
from trainer.hub.tokenizer import write_tokenizer
from trainer.run_folder import RunFolder
from trainer.tasks.formats import CHAT_TEMPLATE
from trainer.training.checkpoint import save_weights, valid_checkpoints
from trainer.utils.errors import UserError


def import_run(source: Path, target: Path, generator: Path | None = None) -> dict[str, Any]:
    """Make the run folder `target` of a checkpoint of transformers: config.yaml, a checkpoint of step 0, the tokenizer.

    The folder can be generated from, evaluated, exported, and trained on. Returns facts to print.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; import takes a downloaded checkpoint, and downloads none itself")
    imported = read_checkpoint(source, generator)
    tokenizer = next((source / name for name in TOKENIZER_FILES if (source / name).is_file()), None)
    config = _config_of(imported, (target / "tokenizer.model").absolute() if tokenizer else None)
    with new_folder(target.absolute()) as aside:
        folder = RunFolder(aside)
        folder.config.write_text(config.to_yaml())
        if tokenizer is not None:
            shutil.copyfile(tokenizer, folder.tokenizer)
        facts = {"science": config.science_hash(), "data": "", "best": {}, "imported": str(source)}
        save_weights(folder.checkpoints, imported.weights, facts)
    return {
        "run": str(target),
        "model": config.model.name,
        "type": type_of(imported.model).type,
        "parameters": sum(value.numel() for value in imported.weights.values()),
        "tokenizer": str(tokenizer) if tokenizer else None,
    }


def _config_of(imported: Imported, tokenizer: Path | None) -> Config:
    model = imported.model
    vocabulary = min(TokenizerConfig().vocabulary, model.vocabulary or 0)
    own: dict[str, Any] = {"vocabulary": vocabulary} if vocabulary >= 300 else {"path": "not-given.model"}
    return Config.model_validate(
        {
            "model": model.model_dump(mode="json"),
            "objective": _objective_of(model),
            "tokenizer": {"path": str(tokenizer)} if tokenizer else own,
            "data": {"sequence_length": max(8, min(256, model.max_length or 256))},
        }
    )


def _objective_of(model: ModelConfig) -> dict[str, Any]:
    """What transformers' models of this kind are pre-trained with, for runs that go on with one."""
    if model.two_stream:
        return {"name": "permuted_lm"}
    if model.generator_width:
        return {"name": "replaced_token"}
    if type_of(model).type == "bart":
        return {"name": "bart", "noises": ["text_infilling"]}
    return {"name": {"decoder": "causal", "encoder": "masked_lm", "encoder_decoder": "span_corruption"}[model.family]}


def _beside_the_pad(
    model: ModelConfig, weights: dict[str, Tensor], kind: str, pad: int | None
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """RoBERTa's position 0 stands in the row behind the pad token's id: move the table to where transformers looks."""
    if kind not in ("roberta", "xlm-roberta", "xlm-roberta-xl") or pad is None or model.position_offset == pad + 1:
        return model, weights
    table = weights["positions.weight"][model.position_offset :]
    moved = torch.cat((table.new_zeros(pad + 1, table.shape[1]), table))
    return model.model_copy(update={"position_offset": pad + 1}), weights | {"positions.weight": moved}


def export_run(run: Path, target: Path, *, tokenizer: bool = True) -> dict[str, Any]:
    """Write the newest intact checkpoint of a run as a checkpoint of transformers, with its tokenizer and a model card.

    Returns facts to print. Raises UserError where there is no checkpoint, or no such model in transformers.
    """
    folder = RunFolder(run)
    config = folder.load_config()
    model = config.model.model_copy(update={"vocabulary": config.vocabulary, "max_length": config.max_length})
    family = type_of(model)
    checkpoint = next(valid_checkpoints(folder.checkpoints), None)
    if checkpoint is None:
        raise UserError(f"{run}: no intact checkpoint yet")
    with_tokenizer = tokenizer and folder.tokenizer.is_file()
    special, pieces = {}, {}
    if folder.tokenizer.is_file():
        pieces = Tokenizer(folder.tokenizer).specials
        ids = {"bos_token_id": "<s>", "eos_token_id": "</s>", "pad_token_id": "<pad>"}
        special = {name: pieces[piece] for name, piece in ids.items() if piece in pieces}
        if model.family == "encoder_decoder":
            special["decoder_start_token_id"] = special["bos_token_id"]
    head, weights = new_head(config, family.type), plain_names(checkpoint.weights())
    model, weights = _beside_the_pad(model, weights, family.type, special.get("pad_token_id"))
    converses = config.task.description is not None and config.task.description.converses and config.task.chat
    chat = CHAT_TEMPLATE if converses and "<sep>" in pieces else None
    with new_folder(target.absolute()) as aside:
        write_checkpoint(aside, model, weights, special, head)
        if with_tokenizer:
            write_tokenizer(aside, folder.tokenizer, chat)
        (aside / "README.md").write_text(model_card(config, family, checkpoint, with_tokenizer))
    return {
        "folder": str(target),
        "type": family.type,
        "step": checkpoint.step,
        "tokenizer": with_tokenizer,
    }
