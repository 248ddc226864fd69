"""Other distributions, and folders that people work in, carry packages of the same names as ours."""

from __future__ import annotations

import importlib.util
import os
import site
from pathlib import Path

NAMES = ("kernels", "launch", "conf")
HOME = Path(__file__).resolve().parents[2]
OWN = '__distribution__ = "isoflop"'  # a line in the first file of each of our packages


class ForeignPackage(ImportError):
    """A package of ours is hidden by another one of its name; the text is one line for a person."""


def require_own_packages() -> None:
    """Raise ForeignPackage where one of our packages is hidden by a foreign one, overwritten by it, or is missing."""
    for name in NAMES:
        if found := foreign(name, HOME):
            raise ForeignPackage(found)


def foreign(name: str, home: Path) -> str:
    """What to say of a package that is not the one in `home`; nothing where it is."""
    spec = importlib.util.find_spec(name)
    places = [spec.origin] if spec and spec.origin else list(spec.submodule_search_locations or ()) if spec else []
    if all(Path(place).resolve() == home / name for place in places):
        return f"the package {name!r} lacks its first file ({home / name / '__init__.py'}); install isoflop again"
    if [Path(place).resolve() for place in places] != [home / name / "__init__.py"]:
        way = "rename or uninstall the foreign one, or start in another folder"
        return f"the package {name!r} is not isoflop's ({', '.join(places)}{_of(name)}); {way}"
    if OWN not in Path(places[0]).read_text(errors="replace").splitlines():
        way = "uninstall the foreign one, then install isoflop again"
        return f"the package {name!r} is not isoflop's any more ({places[0]} is overwritten{_of(name)}); {way}"
    return ""


def _of(name: str) -> str:
    """Which installed distributions beside ours hold a package of this name."""
    from importlib import metadata  # not above: it takes time, and is asked where something is wrong

    others = {one for one in metadata.packages_distributions().get(name, ()) if one != "isoflop"}
    return f", of the distribution {' or '.join(sorted(others))}" if others else ""


def search_path() -> str:
    """PYTHONPATH for processes of this interpreter that import our packages, and no others of their names.

    They are started with -P: without it the folder that a person works in would come first.
    """
    given = os.environ.get("PYTHONPATH", "")
    if HOME in [Path(folder).resolve() for folder in [*site.getsitepackages(), site.getusersitepackages()]]:
        return given  # found there; in PYTHONPATH that folder would come before Python's own library
    return given if given.split(os.pathsep)[0] == str(HOME) else os.pathsep.join(filter(None, [str(HOME), given]))
