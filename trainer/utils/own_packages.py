"""Other distributions, and folders that people work in, carry packages of the same names as ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

NAMES = ("kernels", "launch", "conf")
HOME = Path(__file__).resolve().parents[2]


class ForeignPackage(ImportError):
    """A package of ours is hidden by another one of its name; the text is one line for a person."""


def require_own_packages() -> None:
    """Raise ForeignPackage where one of our packages is hidden by a foreign one, or is missing."""
    for name in NAMES:
        if found := foreign(name, HOME):
            raise ForeignPackage(found)


def foreign(name: str, home: Path) -> str:
    """What to say of a package that is not the one in `home`; nothing where it is."""
    spec = importlib.util.find_spec(name)
    origin = spec.origin if spec else None
    if origin is not None and Path(origin).resolve().parent.parent == home:
        return ""
    where = origin or (", ".join(spec.submodule_search_locations or ()) if spec else "") or "missing"
    way = "rename or uninstall the foreign one, or start in another folder"
    return f"the package {name!r} is not isoflop's ({where}); {way}"
