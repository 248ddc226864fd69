"""Other distributions, and folders that people work in, carry packages of the same names as ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def require_own_packages() -> None:
    """Raise ImportError in one line where one of our packages is hidden by a foreign one, or is missing."""
    spec = importlib.util.find_spec("trainer")
    if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != HOME:
        where = (spec and spec.origin) or "missing"
        raise ImportError(
            f"the package 'trainer' is not isoflop's ({where}); rename or uninstall the foreign one, "
            "or start in another folder"
        )
    from trainer.utils.own_packages import require_own_packages as require_the_rest

    require_the_rest()
