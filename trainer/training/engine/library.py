"""The one place where DeepSpeed is imported first."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any


def import_deepspeed(device_type: str) -> Any:
    """Import DeepSpeed quietly, and without the C++ extension that it would compile on a CPU."""
    if device_type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
    # DeepSpeed calls all_gather_into_tensor and reduce_scatter_tensor by names that torch is retiring.
    warnings.filterwarnings(
        "ignore", category=FutureWarning, message=".*(all_gather_into_tensor|reduce_scatter_tensor).*"
    )
    with _hidden("mlflow"):  # a second of imports for its autotuner, which is not used here
        import deepspeed  # type: ignore[import-untyped]

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # It serves inference_all_reduce only, and needs a compiler at the first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Imports of this module fail meanwhile, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
