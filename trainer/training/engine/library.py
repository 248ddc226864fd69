"""The one place where DeepSpeed is imported first."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    with _without("mlflow"):
        import deepspeed  # type: ignore[import-untyped]

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # It serves inference_all_reduce only, and needs a compiler at the first start.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


@contextmanager
def _without(library: str) -> Iterator[None]:
    """Hide a library that DeepSpeed's autotuner imports where it is installed: a second of every start, for nothing."""
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[library]
