"""The files of a Hugging Face checkpoint: read without unpickling anything, written complete or not at all."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainer.hub.layouts import ByExpert
from trainer.utils.bounded import parse_json
from trainer.utils.errors import UserError
from trainer.utils.files import fsync_folder, write_synced

LARGEST_FILE = 5_000_000_000  # bytes of one file of weights
LARGEST_JSON = 200_000_000  # bytes; the index of a large model has some
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F32", "BF16", "F16", "F64")  # what safetensors calls the types that are read

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
        self._kinds: dict[str, str] = {}  # how safetensors calls the type of a tensor's values
        self._parts: dict[str, tuple[ByExpert, tuple[str, ...]]] = {}  # of tensors that are gathered
        index, paths = _weight_files(folder)
        for path in paths:
            try:
                file = safe_open(path, "pt")  # type: ignore[no-untyped-call]
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    if name in self._file:
                        raise UserError(f"{path}: {name}: another file of {folder} has a tensor of that name, too")
                    part = file.get_slice(name)
                    self._file[name], self._kinds[name] = file, str(part.get_dtype())
                    self.shapes[name] = torch.Size(part.get_shape())
            except (SafetensorError, OSError, RuntimeError, OverflowError) as error:
                raise UserError(f"{path}: not a safetensors file, or a damaged one ({error})") from None
        absent = sorted(set(index) - set(self._file))
        if absent:
            raise UserError(f"{folder / INDEX}: names tensors that no file holds: {named(absent)}")

    def gather(self, kinds: Iterable[ByExpert]) -> None:
        """Take the tensors that stand for single experts as one of all. Raises UserError naming one that is missing, or
        of another shape than the others."""
        for kind in kinds:
            found: dict[str, dict[str, int]] = {}  # beginning of the name -> parts, and of which expert
            for name in self.shapes:
                if (match := kind.matches(name)) is not None:
                    found.setdefault(match[0], {})[name] = match[2]
            for begin, parts in found.items():
                names = kind.names(begin, max(parts.values()) + 1)
                if missing := [name for name in names if name not in parts]:
                    raise UserError(f"{self.folder}: {named(missing)}: missing, beside {next(iter(parts))}")
                self._gather(begin + kind.whole, kind, names)

    def _gather(self, whole: str, kind: ByExpert, names: Sequence[str]) -> None:
        first = self.shapes[names[0]]
        other = next((name for name in names if self.shapes[name] != first or not first), None)
        if other is not None:
            raise UserError(
                f"{self.folder}: {other}: of shape {list(self.shapes[other])}, {names[0]} is of {list(first)}"
            )
        if whole in self.shapes:
            raise UserError(f"{self.folder}: {whole}: the same tensor stands there as {names[0]}, too; leave one out")
        for name in names:
            del self.shapes[name]
        per_expert = torch.Size((first[0] * len(kind.parts), *first[1:]))
        count = len(names) // len(kind.parts)
        self.shapes[whole] = torch.Size((count, *per_expert)) if kind.several else per_expert
        self._parts[whole] = kind, tuple(names)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    @property
    def numbers(self) -> int:
        """How many numbers all tensors hold together."""
        return sum(shape.numel() for shape in self.shapes.values())

    def unreadable(self, name: str) -> str | None:
        """Why the values of a tensor are no weights to read; none where they are."""
        if name in self._parts:
            reasons = ((part, self.unreadable(part)) for part in self._parts[name][1])
            return next((f"{part}: {why}" for part, why in reasons if why), None)
        kind = self._kinds[name]
        if kind in FLOATS:
            return None
        return (
            f"stored as {kind}, {' and '.join(FLOATS)} are read: quantised weights are not; take the folder of the "
            "model before it was quantised"
        )

    def read(self, name: str) -> Tensor:
        """One tensor, in fp32. Raises UserError where fp32 cannot hold a value exactly."""
        if name in self._parts:
            kind, parts = self._parts[name]
            return kind.join([self.read(part) for part in parts])
        tensor: Tensor = self._file[name].get_tensor(name)
        if not tensor.is_floating_point():
            return tensor
        single = tensor.float()
        if tensor.dtype == torch.float64 and not torch.equal(single.double().nan_to_num(), tensor.nan_to_num()):
            raise UserError(
                f"{self.folder}: {name}: stored in fp64 with values that fp32 does not hold; round them first, by "
                "saving the model as fp32"
            )
        return single


def named(names: Iterable[str], most: int = 3) -> str:
    """The first of many names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def there(path: Path) -> bool:
    """Whether a regular file is there, or a link to one. Raises UserError for anything else of that name."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"))
        found = next((name for test, name in kinds if test(mode)), "no regular file")
        raise UserError(f"{path}: {found} found, a file wanted")
    return True


def _weight_files(folder: Path) -> tuple[dict[str, str], list[Path]]:
    """What the index says, tensor -> file, and the files; as transformers, one whole file before an index."""
    if there(folder / WHOLE):
        return {}, [folder / WHOLE]
    if there(folder / INDEX):
        return _indexed(folder)
    pickles = sorted(
        path.name
        for pattern in ("*.bin", "*.pt", "*.pth")
        for path in folder.glob(pattern)
        if not re.match(r"(training_args|optimizer|scheduler|rng_state)", path.name)
    )
    if pickles:
        raise UserError(
            f"{folder}: {named(pickles)}: pickles can run code and are never read; where you trust them, convert "
            f"them: {conversion(folder)}"
        )
    raise UserError(f"{folder}: no {WHOLE} and no {INDEX}")


def _indexed(folder: Path) -> tuple[dict[str, str], list[Path]]:
    index = folder / INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{index}: weight_map: a name of a file for every tensor wanted")
    names = sorted(set(weight_map.values()))
    outside = [name for name in names if not re.fullmatch(r"[^/\\\0]+\.safetensors", name)]
    if outside:
        raise UserError(f"{index}: weight_map: {outside[0]!r} is no safetensors file in this folder")
    missing = [name for name in names if not there(folder / name)]
    if missing or not names:
        raise UserError(f"{index}: names files that are not there: {named(missing) or 'none at all'}")
    return weight_map, [folder / name for name in names]


def conversion(folder: Path) -> str:
    """A command that makes model.safetensors of the pickles of a folder, without running code that they hold."""
    return (
        'python -c "import glob, torch; from safetensors.torch import save_file; '
        f"files = sorted(glob.glob({str(folder / '*.bin')!r})); "
        "parts = [torch.load(f, map_location='cpu', weights_only=True) for f in files if 'training_args' not in f]; "
        "save_file({n: t.clone().contiguous() for p in parts for n, t in p.items()}, "
        f"{str(folder / WHOLE)!r}, {{'format': 'pt'}})\""
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError where there is none, where a key stands twice and for numbers JSON has not."""
    if not there(path):
        raise UserError(f"{path}: no such file; a Hugging Face checkpoint has one")
    if path.stat().st_size > LARGEST_JSON:
        raise UserError(
            f"{path}: {path.stat().st_size:,} bytes are no JSON of a checkpoint; up to {LARGEST_JSON:,} are"
        )
    try:
        content = parse_json(path.read_text(), object_pairs_hook=_once, parse_constant=_number, parse_float=_number)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object wanted, {type(content).__name__} found")
    return content


def copy_beside(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """Put the files that lie beside the weights into the folder `target`, as they are."""
    target.mkdir(exist_ok=True)
    for file in sorted({file for pattern in BESIDE for file in source.glob(pattern) if file.is_file()}):
        if file.name in without:
            continue
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content and content[name] != value:
            raise UserError(f"{name}: stands twice, with two values")
        content[name] = value
    return content


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise UserError(f"{text} found where a number is wanted")
    return value


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
    names = [WHOLE]
    if len(shares) > 1:
        names = [f"model-{i + 1:05d}-of-{len(shares):05d}.safetensors" for i in range(len(shares))]
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        weight_map = {tensor: name for name, share in zip(names, shares, strict=True) for tensor in share}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / INDEX, index)
    for name, share in zip(names, shares, strict=True):
        write_synced(folder / name, save(share, metadata={"format": "pt"}))
