"""Experts that ranks share: the curve of one process, checkpoints that any layout reads, and bytes as the books say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training import expert_probe

Found = dict[str, dict[str, Any]]
FAMILIES: dict[str, dict[str, Any]] = {
    "dropout": {
        "model.dropout": 0.2,
        "model.dropout_inside": True,
        "model.activation": "gelu",
        "model.experts.capacity": 1.0,
        "engine.activation_checkpointing": True,
    },
    "bias": {
        "model.experts.balance": "both",
        "model.experts.bias_rate": 0.01,
        "model.experts.score": "sigmoid",
        "model.experts.shared": 1,
        "model.experts.shared_gate": True,
        "model.experts.groups": 2,
        "model.experts.groups_per_token": 1,
    },
    "loads of the batch": {
        "model.experts.group": "batch",
        "model.experts.renormalise": True,
        "model.experts.every": 2,
        "optim.averages": {"ema": {"half_life": 200}, "last": {"latest": 2, "every_steps": 1}},
    },
    "groups of two": {
        "model.experts.group": 2,
        "model.experts.capacity": 0.9,
        "model.experts.limit": 4,
        "model.experts.per_token": 1,
        "optim.name": "muon",
    },
    "adafactor": {"optim.name": "adafactor"},
    "lamb": {"optim.name": "lamb"},
}
# Stage, ranks, ranks that share experts, micro-batch; "groups of two" needs an even one.
LAYOUTS = (
    (0, 2, 2, 4),
    (1, 2, 2, 2),
    (2, 2, 2, 2),
    (3, 2, 2, 4),
    (0, 4, 2, 2),
    (1, 4, 4, 2),
    (2, 4, 2, 2),
    (3, 4, 2, 2),
)


def case(name: str, layout: tuple[int, int, int, int] | None = None, **more: Any) -> dict[str, Any]:
    stage, ranks, sharing, rows = layout or (0, 1, 1, expert_probe.ROWS)
    keys = {"engine.zero_stage": stage, "engine.expert_parallel": sharing, "engine.micro_batch": rows}
    return {"name": name, "ranks": ranks, **more, "keys": keys | more.get("keys", {})}


def found(folder: Path, *cases: dict[str, Any]) -> Found:
    file = folder / "cases.json"
    file.write_text(json.dumps(cases))
    command = [sys.executable, "-m", expert_probe.__name__, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: Found = json.loads(done.stdout.splitlines()[-1])
    return result


def assert_same(ours: dict[str, Any], whole: dict[str, Any]) -> None:
    """The last steps of both are the same."""
    pairs = zip(ours["records"], whole["records"][-len(ours["records"]) :], strict=True)
    for number, ((loss, norm, *_), (other, of_other, *_)) in enumerate(pairs):
        assert loss == pytest.approx(other, rel=1e-5), number
        assert norm == pytest.approx(of_other, rel=1e-4), number
    for name in ("held_out", "copied"):
        assert ours[name] == pytest.approx(whole[name], rel=1e-5), name
    loads = [[load for layer in run["loads"] for load in layer] for run in (ours, whole)]
    assert loads[0] == pytest.approx(loads[1], abs=1.1)  # rounding may have a token change its expert
    assert ours["weights"] == pytest.approx(whole["weights"], rel=1e-3, abs=0.5)


def assert_counted(ours: dict[str, Any], sharing: int) -> None:
    """To the byte, were a rank's own rows sent too; routers send the ranks about as much as even loads would."""
    for *_, abroad, every in ours["records"]:
        assert every == pytest.approx(ours["expected"] * sharing / (sharing - 1), rel=1e-12)
        assert abroad == pytest.approx(ours["expected"], rel=0.25)


def test_one_curve_and_resumed(tmp_path: Path) -> None:
    """Three layouts from the beginning, and each way between one rank and shared experts half way."""
    keys = FAMILIES["dropout"] | FAMILIES["bias"]
    runs = found(
        tmp_path,
        case("one", keys=keys, save=str(tmp_path / "one"), steps=3),
        case("states", (1, 2, 2, 2), keys=keys, save=str(tmp_path / "states"), steps=3),
        case("weights", (3, 4, 2, 2), keys=keys, steps=3),
    )
    again = found(
        tmp_path,
        case("alone", keys=keys, after=str(tmp_path / "states" / "step-00000002"), steps=1),
        case("everything", (0, 2, 2, 4), keys=keys, after=str(tmp_path / "one" / "step-00000002"), steps=1),
    )
    for run in (runs["states"], runs["weights"], again["alone"], again["everything"]):
        assert_same(run, runs["one"])
    for run in (runs["states"], runs["weights"], again["everything"]):
        assert_counted(run, 2)
    assert not runs["one"]["expected"] and all(norm > 0.5 for _, norm, *_ in runs["one"]["records"])  # so it is clipped


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout(tmp_path: Path, family: str) -> None:
    keys = FAMILIES[family]
    folders = [str(tmp_path / f"layout-{number}") for number in range(len(LAYOUTS))]
    whole = case("one", keys=keys, save=str(tmp_path / "one"))
    layouts = [case(str(n), layout, keys=keys, save=folders[n]) for n, layout in enumerate(LAYOUTS)]
    runs = found(tmp_path, whole, *layouts)
    for number, layout in enumerate(LAYOUTS):
        assert_same(runs[str(number)], runs["one"])
        assert_counted(runs[str(number)], layout[2])
    # Each goes on where another one ended, the first where one rank did, and one rank where the last one did.
    before = [str(tmp_path / "one"), *folders[:-1]]
    on = [
        case(str(n), layout, keys=keys, steps=1, after=f"{before[n]}/step-00000003") for n, layout in enumerate(LAYOUTS)
    ]
    back = case("back", keys=keys, steps=1, after=f"{folders[-1]}/step-00000003")
    for run in found(tmp_path, *on, back).values():
        assert_same(run, runs["one"])


@pytest.mark.slow
def test_three_ranks_and_host_memory(tmp_path: Path) -> None:
    """Three ranks share six experts, and eight sequences unevenly; states and weights in host memory."""
    keys = {"model.experts.count": 6}
    host = {"engine.offload_optimizer": True}
    runs = found(
        tmp_path,
        case("one", keys=keys),
        *(case(f"three at {stage}", (stage, 3, 3, 3), keys=keys) for stage in range(4)),
        case("states in host memory", (2, 2, 2, 2), keys=keys | host),
        case("all in host memory", (3, 2, 2, 2), keys=keys | host | {"engine.offload_parameters": True}),
    )
    for run in runs.values():
        assert_same(run, runs["one"])


@pytest.mark.slow
def test_tokens_travel_in_bf16(tmp_path: Path) -> None:
    """Half the bytes; the curve is that of one rank within what a sum in another order does in bf16."""
    keys = {"engine.precision": "bf16", "model.experts.capacity": 1.0}
    runs = found(tmp_path, case("one", keys=keys), case("two", (1, 2, 2, 4), keys=keys))
    assert_counted(runs["two"], 2)
    for ours, whole in zip(runs["two"]["records"], runs["one"]["records"], strict=True):
        assert ours[0] == pytest.approx(whole[0], rel=2e-3)
