"""Triton's CPU interpreter stands in for the GPU where there is none; it must be chosen before Triton is imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside the tests

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if HAS_GPU else "cpu"


@pytest.fixture(scope="session", autouse=True)
def mended_interpreter() -> None:
    if not HAS_GPU:
        import bf16_interpreter

        bf16_interpreter.install()
        bf16_interpreter.hasten()


@pytest.fixture(autouse=True)
def one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
