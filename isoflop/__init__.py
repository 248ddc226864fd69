"""isoflop from Python: what the verbs of the command do, as functions that return and raise, and never exit.

    import isoflop

    config = isoflop.compose(["model=gpt-mini", "budget.steps=200"])
    print(isoflop.plan(config))
    run = isoflop.train(config)
    run.metrics()["loss"], run.generate("def ", tokens=40)

Names are imported on first use; composing and planning import no torch.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isoflop.analysis import compare, fit, next_runs, predict
    from isoflop.planning import Config, Price, change, compose, plan
    from isoflop.plugins import use
    from isoflop.reading import show
    from isoflop.run import Run, RunFailed, finetune, train
    from isoflop.table import Table
    from trainer import __version__
    from trainer.utils.errors import UserError

__all__ = [
    "Config",
    "Price",
    "Run",
    "RunFailed",
    "Table",
    "UserError",
    "__version__",
    "change",
    "compare",
    "compose",
    "finetune",
    "fit",
    "next_runs",
    "plan",
    "predict",
    "show",
    "train",
    "use",
]

_MODULES = {
    "isoflop.analysis": ("compare", "fit", "next_runs", "predict"),
    "isoflop.planning": ("Config", "Price", "change", "compose", "plan"),
    "isoflop.plugins": ("use",),
    "isoflop.reading": ("show",),
    "isoflop.run": ("Run", "RunFailed", "finetune", "train"),
    "isoflop.table": ("Table",),
    "trainer": ("__version__",),
    "trainer.utils.errors": ("UserError",),
}


def __getattr__(name: str) -> Any:
    """Raises ImportError where a package of ours is shadowed by another one of its name."""
    from isoflop.own_packages import require_own_packages

    for module, names in _MODULES.items():
        if name in names:
            require_own_packages()
            globals()[name] = getattr(importlib.import_module(module), name)
            return globals()[name]
    near = "".join(f" (did you mean {one!r}?)" for one in get_close_matches(name, __all__, n=1))
    raise AttributeError(f"module 'isoflop' has no attribute {name!r}{near}; there is {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
