"""What is used of DeepSpeed beside its documented calls: each name is listed, and each is in the installed version."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.training import engine
from trainer.training.engine import import_deepspeed
from trainer.training.engine.private import PRIVATE

FOLDER = Path(engine.__file__).parent
BESIDE = FOLDER.parent.parent / "models" / "expert_ranks.py"  # reads what DeepSpeed hangs on parameters: ds_...
# DeepSpeed's documented calls.
PUBLIC = {"initialize", "init_distributed", "zero", "Init", "GatheredParameters", "register_external_parameter", "comm"}
PUBLIC |= {
    "log_summary",
    "compile",
    "backward",
    "step",
    "set_gradient_accumulation_boundary",
    "destroy",
    "ops",
    "runtime",
    "config",
    "DeepSpeedConfig",
    "model",
}


def of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def accessed(tree: ast.AST) -> Iterator[str]:
    """Attributes by dot or by getattr, and names imported from DeepSpeed; of `self` none but those are ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not of_self(node):
            yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            yield str(ast.literal_eval(node.args[1]))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("deepspeed"):
            yield from (name.name for name in node.names)


def named_here(tree: ast.AST) -> Iterator[str]:
    """Functions, classes and attributes of `self` or of dataclasses that the file itself defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_self(node):
            yield node.attr


# Attributes of our own objects of other packages, and of what torch and the standard library return.
OTHERS = """
    engine optim deepspeed offload_optimizer offload_parameters clip seed precision activation_checkpointing recompute
    rank size local_rank sum clear seconds ru_maxrss filterwarnings state param_groups start numel fill_ setLevel
    Optimizer intersection fork_rng states counts_steps attach state_shapes states_of whole_state role shape offset name
    averages every_steps latest stated step_share balance_bias bias_rate by_bias routes_twice up hip
    found_inf vector_norm _dynamo maybe_mark_dynamic on reads keep_gathered wire_gradients group across expert_parallel
    experts_shared experts_announced feed_forward_tile sequences
"""


def used() -> set[str]:
    """Names of DeepSpeed's internals in our sources: what is left after our own, Python's, torch's and numpy's."""
    names: set[str] = set()
    ours: set[str] = set()
    for file in FOLDER.glob("*.py"):
        tree = ast.parse(file.read_text())
        names.update(accessed(tree))
        ours.update(named_here(tree))
    names.update(name for name in accessed(ast.parse(BESIDE.read_text())) if name.startswith("ds_"))
    others = (dict, list, str, torch, torch.Tensor, torch.nn, torch.nn.utils, torch.nn.Module, torch.cuda, np)
    others += (torch.distributed, __import__("os"), __import__("sys"), __import__("resource"), __import__("logging"))
    others += (__import__("contextlib"),)
    known = {name for one in others for name in dir(one)}
    return {name for name in names if name in PRIVATE or name not in known | ours | PUBLIC | set(OTHERS.split())}


def test_every_private_name_is_listed() -> None:
    assert sorted(used() - set(PRIVATE)) == []
    assert sorted(set(PRIVATE) - used()) == []


@pytest.mark.parametrize("name", sorted(PRIVATE))
def test_the_installed_version_has(name: str) -> None:
    source = (Path(import_deepspeed("cpu").__file__).parent / PRIVATE[name]).read_text()
    found = re.search(rf"(\.|def |class |^ *|['\"]){re.escape(name)}\b", source, re.MULTILINE)
    assert found, f"{name} is not in {PRIVATE[name]}"
