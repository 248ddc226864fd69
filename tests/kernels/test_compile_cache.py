"""Code that torch.compile kept on disk is not run with other kernels than those it was compiled from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kernels
from kernels import compile_cache

PACKAGE = Path(kernels.__file__).parent


def test_the_digest_changes_with_a_name_or_a_byte(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.py").write_text("x = 1\n")
    first = compile_cache.digest(tmp_path)
    (tmp_path / "notes.txt").write_text("not code\n")
    assert compile_cache.digest(tmp_path) == first
    (tmp_path / "inner" / "a.py").write_text("x = 2\n")
    second = compile_cache.digest(tmp_path)
    (tmp_path / "inner" / "a.py").rename(tmp_path / "a.py")
    assert len({first, second, compile_cache.digest(tmp_path)}) == 3


def test_a_tag_of_the_user_stays() -> None:
    ours = f"isoflop-{compile_cache.digest(PACKAGE)}"
    assert torch.compiler.config.cache_key_tag.endswith(ours)
    with torch.compiler.config.patch(cache_key_tag="theirs"):
        compile_cache.tag()
        compile_cache.tag()
        assert torch.compiler.config.cache_key_tag == f"theirs-{ours}"


STEP = """
import sys, torch
from kernels import swiglu
gate, up = (torch.ones(4, 8, requires_grad=True) for _ in range(2))
torch.compile(lambda a, b: swiglu(a, b, backend="triton"), fullgraph=True)(gate, up).sum().backward()
print(gate.grad.sum().item())
"""


@pytest.mark.slow
def test_a_backward_changed_between_two_processes_is_compiled_anew(tmp_path: Path) -> None:
    """The forward graph is the same; only the Python that the operator registered as its backward differs."""
    shutil.copytree(PACKAGE, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "TRITON_INTERPRET": "1"}

    def gradient() -> float:
        run = subprocess.run([sys.executable, "-c", STEP], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return float(run.stdout)

    honest = gradient()
    source = tmp_path / "kernels" / "gated" / "triton.py"
    before = source.read_text()
    after = before.replace("(*gated_backward_op(dout,", "(*gated_backward_op(2 * dout,")
    assert after != before
    source.write_text(after)
    assert gradient() == 2 * honest
