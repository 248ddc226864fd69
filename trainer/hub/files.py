"""The files of a Hugging Face checkpoint: read without unpickling anything, written complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainer.utils.errors import UserError
from trainer.utils.files import fsync_folder, write_synced

LARGEST_FILE = 5_000_000_000  # bytes of one file of weights

# What a checkpoint's folder holds beside its weights: settings, templates and the files of its tokenizer.
BESIDE = (
    *("config.json", "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template*", "additional_chat_templates/*.jinja", "vocab.*", "merges.txt", "*.model", "*.spm"),
)


class TensorFiles:
    """The tensors of a folder by name; shapes are known before any value is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: dict[str, Any] = {}
        self.shapes: dict[str, torch.Size] = {}
        for path in _weight_files(folder):
            try:
                file = safe_open(path, "pt")  # type: ignore[no-untyped-call]
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path}: not a safetensors file, or a damaged one ({error})") from None
            for name in file.keys():  # noqa: SIM118 - not a mapping
                self._file[name] = file
                self.shapes[name] = torch.Size(file.get_slice(name).get_shape())

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def read(self, name: str) -> Tensor:
        """One tensor, in fp32."""
        tensor: Tensor = self._file[name].get_tensor(name)
        return tensor.float() if tensor.is_floating_point() else tensor


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise UserError(f"{index}: names files that are not there: {', '.join(missing) or 'none at all'}")
        return [folder / name for name in names]
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder}: {', '.join(pickles)}: pickles can run code and are never read; where you trust them, convert "
            "them: transformers.AutoModelForPreTraining.from_pretrained(folder).save_pretrained(another_folder)"
        )
    raise UserError(f"{folder}: no model.safetensors and no model.safetensors.index.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError where there is none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a Hugging Face checkpoint has one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object wanted, {type(content).__name__} found")
    return content


def copy_beside(source: Path, target: Path) -> None:
    """Make the folder `target` with the files that lie beside the weights, as they are."""
    target.mkdir()
    for file in sorted({file for pattern in BESIDE for file in source.glob(pattern) if file.is_file()}):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when everything in it is written. Raises UserError if `target` exists."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: exists already and is not empty; name another folder")
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for folder in (aside, *(path for path in aside.rglob("*") if path.is_dir())):
            fsync_folder(folder)
        if target.exists():
            target.rmdir()
        os.rename(aside, target)
        fsync_folder(target.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_synced(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], largest: int = LARGEST_FILE) -> None:
    """model.safetensors, or several files with an index where one would be larger than `largest` bytes."""
    shares: list[dict[str, Tensor]] = [{}]
    left = largest
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if shares[-1] and size > left:
            shares.append({})
            left = largest
        shares[-1][name] = tensor.contiguous()
        left -= size
    names = ["model.safetensors"]
    if len(shares) > 1:
        names = [f"model-{i + 1:05d}-of-{len(shares):05d}.safetensors" for i in range(len(shares))]
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        weight_map = {tensor: name for name, share in zip(names, shares, strict=True) for tensor in share}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)
    for name, share in zip(names, shares, strict=True):
        write_synced(folder / name, save(share, metadata={"format": "pt"}))
