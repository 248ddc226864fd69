"""Modules of plugins: by name or by path, where they come from, and what their source is."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Collection
from contextlib import redirect_stdout
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from trainer.utils.errors import UserError
from trainer.utils.home import expanded


def place_of(word: str) -> str:
    """What a word of `plugins=` names, from any directory: the absolute path of a file or a package, or a module's
    name. Raises UserError where there is no such file."""
    path = expanded(word)
    if word.endswith(".py") or "/" in word:
        if not _file_of(path).is_file():
            raise UserError(f"plugins: {word}: no such file; name a .py file, a package's folder, or a module")
        return str(path.absolute())
    beside = next((one for one in (Path(f"{word}.py"), Path(word)) if _file_of(one).is_file()), None)
    return str(beside.absolute()) if beside else word


def module_at(place: str) -> ModuleType:
    """The module that `place_of` found. Raises UserError, in one line, for whatever its import raises."""
    path = Path(place)
    if path.is_absolute():
        return _imported_file(path)
    return imported(place, f"plugins: {place}", f"one that lies here is a file {place}.py")


def imported(name: str, of: str, way: str) -> ModuleType:
    """The module of this name. Raises UserError that begins with `of`, and ends with `way` where there is none."""
    try:
        with redirect_stdout(sys.stderr):  # what a command prints is its own, also as JSON
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise UserError(f"{of}: no module of this name; {way}") from None
        raise UserError(f"{of}: {said(error)}") from error


def _file_of(path: Path) -> Path:
    return path if path.suffix == ".py" else path / "__init__.py"


def _imported_file(path: Path) -> ModuleType:
    """Under the name of the file, by which implementations name it."""
    name, file, of = path.stem, _file_of(path).resolve(), f"plugins: {path}"
    if not name.isidentifier():
        raise UserError(f"{of}: {name!r} is no name of a module; choose another name for the file")
    if not file.is_file():
        raise UserError(f"{of}: no such file")
    there = sys.modules.get(name)
    spec = getattr(there, "__spec__", None) if there else importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() != file:
        raise UserError(f"{of}: another module is called {name} ({spec.origin}); choose another name for the file")
    if there is not None:
        return there
    inside = None if path.suffix == ".py" else [str(file.parent)]
    made = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    assert made is not None and made.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(made)
    try:
        with redirect_stdout(sys.stderr):
            made.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        forget(name)
        raise UserError(f"{of}: {said(error)}") from error
    return module


def forget(name: str, before: Collection[str] = ()) -> None:
    """Take a module and what is inside it out of Python's, so that it can be imported anew; but not what was there
    before."""
    for one in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        if one not in before:
            del sys.modules[one]


def said(error: BaseException) -> str:
    """In one line what an import raised, with the place in the plugin's file."""
    text = " ".join(str(error).split())
    ways = ("<frozen", importlib.__file__, __file__)  # of importing, no place of the plugin's
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if not frame.filename.startswith(ways)), None)
    if isinstance(error, SyntaxError) and error.filename:
        return f"cannot be imported: {type(error).__name__}: {text}"
    at = f" ({last.filename}:{last.lineno})" if last else ""
    return f"cannot be imported: {type(error).__name__}: {text}{at}"


def source_of(module: ModuleType) -> Path:
    """The file of a module; of one in a package the package's folder."""
    parts = module.__name__.split(".")
    for count in range(1, len(parts) + 1):
        file = getattr(sys.modules.get(".".join(parts[:count])), "__file__", None)
        if file is not None:
            path = Path(file).resolve()
            return path.parent if path.name == "__init__.py" else path
    raise UserError(f"plugins: {module.__name__}: no file; a namespace alone brings nothing")


def source_hash(source: Path) -> str:
    """sha256 of a file, or of the names and contents of a folder's .py files."""
    if source.is_file():
        return sha256(source.read_bytes()).hexdigest()
    whole = sha256()
    for file in sorted(source.rglob("*.py")):
        content = file.read_bytes()
        whole.update(f"{file.relative_to(source).as_posix()}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def distribution_of(module: str) -> tuple[str | None, str | None]:
    """Name and version of the installed distribution that holds a module."""
    for name in importlib.metadata.packages_distributions().get(module.partition(".")[0], []):
        return name, importlib.metadata.version(name)
    return None, None
