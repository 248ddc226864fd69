"""Other distributions, and folders that people work in, carry packages of the same names as ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def require_own_packages() -> None:
    """Raise ImportError in one line where one of our packages is hidden by a foreign one, overwritten, or missing."""
    spec = importlib.util.find_spec("trainer")
    origin = spec.origin if spec else None
    if origin is None or Path(origin).resolve().parent.parent != HOME:
        raise ImportError(
            f"the package 'trainer' is not isoflop's ({origin or 'missing'}); rename or uninstall the foreign one, "
            "or start in another folder"
        )
    if '__distribution__ = "isoflop"' not in Path(origin).read_text(errors="replace").splitlines():
        raise ImportError(
            f"the package 'trainer' is not isoflop's any more ({origin} is overwritten); uninstall the foreign one, "
            "then install isoflop again"
        )
    from trainer.utils.own_packages import require_own_packages as require_the_rest

    require_the_rest()
