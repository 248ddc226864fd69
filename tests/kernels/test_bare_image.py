"""On a GPU image with torch and Triton alone the tests of the kernels are collected; a skip names what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bare(*words: str, lacks: str = "") -> subprocess.CompletedProcess[str]:
    """`python words` where what the trainer needs cannot be imported; lacks: further modules that cannot."""
    paths = os.pathsep.join((str(ROOT / "tests" / "kernels"), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": paths, "BARE_IMAGE_LACKS": lacks, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def collected(*words: str, lacks: str = "") -> str:
    done = bare("-m", "pytest", "-p", "bare_image", "--collect-only", "-q", "-rs", *words, lacks=lacks)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_test_of_the_kernels_is_collected_or_names_what_it_lacks() -> None:
    out = collected("tests/kernels")
    assert "No module named 'pydantic" in out  # of the two files that ask the trainer too
    assert {"test_loss.py", "test_norm.py", "test_attention_triton.py"} <= {
        Path(line.partition("::")[0]).name for line in out.splitlines() if "::" in line
    }


def test_those_of_the_gpu_need_neither_the_trainer_nor_its_libraries() -> None:
    out = collected("-m", "gpu", "tests/kernels/test_gpu.py", lacks="trainer isoflop launch")
    assert "test_attention_repeats_bit_for_bit[packed T5]" in out and "SKIPPED" not in out


def test_the_kernels_are_imported_alone() -> None:
    program = "import bare_image, kernels, sys; assert not {'trainer', 'triton'} & sys.modules.keys(); print('alone')"
    assert bare("-c", program, lacks="trainer isoflop launch").stdout == "alone\n"
