"""Every optimizer against a second implementation: torch's, transformers', or the paper's formulas in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.config import OptimConfig
from trainer.descriptions.optimizers import OPTIMIZERS, Role
from trainer.training.optimizers import set_learning_rate
from trainer.training.optimizers.pieces import PieceOptimizer, Place, Ranks

STEPS = 50
SHAPES: dict[str, tuple[Role, tuple[int, ...]]] = {
    "table": ("embedding", (11, 6)),
    "wide": ("matrix", (5, 8)),
    "tall": ("matrix", (9, 4)),
    "experts": ("matrix", (3, 4, 5)),
    "head": ("head", (7, 3)),
    "bias": ("vector", (6,)),
    "by_head": ("vector", (2, 3)),
}
Arrays = dict[str, np.ndarray]


def beginning() -> Arrays:
    chance = np.random.default_rng(0)
    return {name: chance.normal(size=shape).astype(np.float32) for name, (_, shape) in SHAPES.items()}


def gradients() -> Iterator[Arrays]:
    """Of a quadratic bowl with noise: they grow and shrink, and change their signs."""
    chance = np.random.default_rng(1)
    for _ in range(STEPS):
        yield {name: chance.normal(size=shape).astype(np.float32) for name, (_, shape) in SHAPES.items()}


def rate(step: int) -> float:
    return 0.02 * (1 - step / (2 * STEPS))


def optim_of(name: str, **keys: Any) -> OptimConfig:
    return OptimConfig.model_validate({"name": name, "lr": 0.02, "weight_decay": 0.1, **keys})


def ours(name: str, products: torch.dtype = torch.float32, **keys: Any) -> dict[str, Tensor]:
    """The weights after all steps."""
    optim = optim_of(name, **keys)
    weights = {key: torch.nn.Parameter(torch.from_numpy(array.copy())) for key, array in beginning().items()}
    groups = [
        {"params": [weights[key]], "weight_decay": 0.0 if role == "vector" else optim.weight_decay, "lr_scale": 1.0}
        | {"role": role}
        for key, (role, _) in SHAPES.items()
    ]
    optimizer = OPTIMIZERS.implementation(name)(groups, optim)
    if isinstance(optimizer, PieceOptimizer):
        places = [(weights[key], [Place(key, *SHAPES[key], 0, 0, weights[key].numel())]) for key in SHAPES]
        optimizer.attach(places, Ranks(0, 1, alone=True, gather=lambda value: [value]), products)
    for step, given in enumerate(gradients()):
        for key, weight in weights.items():
            weight.grad = torch.from_numpy(given[key].copy())
        set_learning_rate(optimizer, rate(step))
        optimizer.step()
    return {key: weight.detach() for key, weight in weights.items()}


def theirs(make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer], names: list[str]) -> dict[str, Tensor]:
    weights = {key: torch.nn.Parameter(torch.from_numpy(beginning()[key])) for key in names}
    optimizer = make(
        [{"params": [weights[key]], "weight_decay": 0.0 if SHAPES[key][0] == "vector" else 0.1} for key in names]
    )
    for step, given in enumerate(gradients()):
        for key, weight in weights.items():
            weight.grad = torch.from_numpy(given[key].copy())
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
    return {key: weight.detach() for key, weight in weights.items()}


def by_formula(update: Callable[[str, np.ndarray, np.ndarray, dict[str, Any], int, float], np.ndarray]) -> Arrays:
    """The weights after all steps of `update(name, weight, gradient, states, step from 1, lr)` in float64."""
    weights = {name: array.astype(np.float64) for name, array in beginning().items()}
    states: dict[str, dict[str, Any]] = {name: {} for name in SHAPES}
    for step, given in enumerate(gradients()):
        for name, weight in weights.items():
            weights[name] = update(name, weight, given[name].astype(np.float64), states[name], step + 1, rate(step))
    return weights


def decay_of(name: str) -> float:
    return 0.0 if SHAPES[name][0] == "vector" else 0.1


def assert_close(found: dict[str, Tensor], wanted: dict[str, Any], tolerance: float = 1e-6) -> None:
    for name, array in wanted.items():
        difference = (found[name].double() - torch.as_tensor(array).double()).abs().max()
        assert difference <= tolerance * torch.as_tensor(array).abs().max(), (name, float(difference))


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs_where_nothing_decays(nesterov: bool) -> None:
    wanted = theirs(lambda groups: torch.optim.SGD(groups, momentum=0.8, nesterov=nesterov), ["bias", "by_head"])
    found = ours("sgd", momentum=0.8, nesterov=nesterov)
    assert_close({name: found[name] for name in wanted}, wanted)


def test_sgd_decays_weights_and_not_their_momentum() -> None:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: dict[str, Any], step: int, lr: float) -> np.ndarray:
        state["v"] = 0.9 * state.get("v", 0.0) + g
        return w - lr * (g + 0.9 * state["v"]) - lr * decay_of(name) * w

    assert_close(ours("sgd"), by_formula(update))


def test_lion_is_its_papers_algorithm() -> None:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: dict[str, Any], step: int, lr: float) -> np.ndarray:
        m = state.get("m", np.zeros_like(w))
        state["m"] = 0.98 * m + 0.02 * g
        return w - lr * (np.sign(0.9 * m + 0.1 * g) + decay_of(name) * w)

    assert_close(ours("lion", beta2=0.98), by_formula(update))


def test_lamb_is_its_papers_algorithm() -> None:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: dict[str, Any], step: int, lr: float) -> np.ndarray:
        state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
        state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g * g
        direction = state["m"] / (1 - 0.9**step) / (np.sqrt(state["v"] / (1 - 0.999**step)) + 1e-6)
        direction = direction + decay_of(name) * w
        trust = 1.0 if SHAPES[name][0] == "vector" else np.linalg.norm(w) / np.linalg.norm(direction)
        return w - lr * trust * direction

    assert_close(ours("lamb", beta2=0.999, epsilon=1e-6), by_formula(update))


@pytest.mark.parametrize("scaled", [True, False])
def test_adafactor_is_transformers(scaled: bool) -> None:
    from transformers.optimization import Adafactor

    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return Adafactor(groups, lr=0.02, scale_parameter=scaled, relative_step=False, warmup_init=False)

    names = [
        name for name in SHAPES if name != "by_head"
    ]  # which transformers factors, and the books count as a vector
    assert_close(ours("adafactor", scale_by_parameter=scaled), theirs(make, names))


def newton_schulz(g: np.ndarray) -> np.ndarray:
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / np.linalg.norm(x)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_its_authors_algorithm(nesterov: bool) -> None:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: dict[str, Any], step: int, lr: float) -> np.ndarray:
        state["m"] = m = 0.95 * state.get("m", 0.0) + 0.05 * g
        wanted = 0.05 * g + 0.95 * m if nesterov else m
        direction = np.stack([newton_schulz(one) for one in wanted]) if w.ndim == 3 else newton_schulz(wanted)
        return w * (1 - lr * 0.1) - lr * 0.2 * max(w.shape[-2:]) ** 0.5 * direction

    matrices = [name for name, (role, _) in SHAPES.items() if role == "matrix"]
    wanted = by_formula(lambda name, w, *rest: update(name, w, *rest) if name in matrices else w)
    assert_close(ours("muon", nesterov=nesterov), {name: wanted[name] for name in matrices}, 2e-6)


def test_muon_trains_all_but_matrices_by_adamw() -> None:
    others = [name for name, (role, _) in SHAPES.items() if role != "matrix"]
    wanted = theirs(lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8), others)
    assert_close(ours("muon"), wanted)


def test_muon_in_bf16_is_torchs() -> None:
    matrices = [name for name, (role, shape) in SHAPES.items() if role == "matrix" and len(shape) == 2]
    wanted = theirs(lambda groups: torch.optim.Muon(groups, adjust_lr_fn="match_rms_adamw"), matrices)
    assert_close(ours("muon", torch.bfloat16), wanted, 5e-3)


def test_schedule_free_is_its_papers_algorithm() -> None:
    """Algorithm 1 with x, y and z apart; its rates rise, as in a warm-up."""

    def update(name: str, y: np.ndarray, g: np.ndarray, state: dict[str, Any], step: int, lr: float) -> np.ndarray:
        x, z = state.get("x", y), state.get("z", y)
        state["v"] = 0.95 * state.get("v", 0.0) + 0.05 * g * g
        state["squares"] = state.get("squares", 0.0) + lr * lr
        c = lr * lr / state["squares"]
        direction = g / (np.sqrt(state["v"] / (1 - 0.95**step)) + 1e-8) + decay_of(name) * y
        state["z"] = z - lr * direction
        state["x"] = (1 - c) * x + c * state["z"]
        return 0.1 * state["z"] + 0.9 * state["x"]

    assert_close(ours("schedule_free", schedule="constant"), by_formula(update))


def test_schedule_free_is_used_at_the_mean_of_its_steps() -> None:
    """Without a gradient's help: x, by hand, of what is trained and of z."""
    optim = optim_of("schedule_free", schedule="constant", beta1=0.8)
    kind, share = OPTIMIZERS["schedule_free"].used(optim)  # type: ignore[misc]
    x, z = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 5.0])
    assert kind == "z"
    torch.testing.assert_close((0.2 * z + 0.8 * x).lerp(z, share), x)
