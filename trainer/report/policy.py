"""What a report shows of a policy that learns from rewards."""

from __future__ import annotations

from typing import Any

from trainer.config import Config
from trainer.report.plots import BLUE, PALE, Curve, Plot, pairs, smooth, thin

TITLES = {
    "reward": ("Reward of the policy's answers", "mean of a step"),
    "kl": ("KL divergence from the reference", "nats per answer"),
    "entropy": ("Entropy of the policy", "nats per token"),
    "length": ("Length of an answer", "tokens"),
    "ended": ("Answers that came to an end", "share"),
}


def loss_unit(config: Config) -> str:
    """What the losses of a run are in."""
    return "task.kl x KL - reward of an answer" if config.task.writes else "nats per target"


def policy_lines(kept: tuple[dict[str, Any], ...]) -> list[str]:
    """A line about the last step's answers; none where no policy learned."""
    found = [record for record in kept if record.get("policy")]
    if not found:
        return []
    said, step = found[-1]["policy"], found[-1].get("step")
    return [
        f"the policy's answers in step {step}: reward {said['reward']:.4f} (standard deviation "
        f"{said['reward_std']:.4f}), KL {said['kl']:.4f} nats an answer from the reference, "
        f"{said['length']:.1f} tokens, {said['ended']:.0%} came to an end"
    ]


def policy_plots(steps: list[dict[str, Any]]) -> list[Plot]:
    """One for each figure of the records' `policy`, against steps; none where no policy learned."""
    flat = [record | record["policy"] for record in steps if record.get("policy")]
    return [_plot(flat, name) for name in TITLES] if flat else []


def _plot(flat: list[dict[str, Any]], name: str) -> Plot:
    title, label = TITLES[name]
    x, y = pairs(flat, "step", name)
    kept = thin([{"x": a, "y": b, "mean": c} for a, b, c in zip(x, y, smooth(y), strict=True)])
    columns = [[record[column] for record in kept] for column in ("x", "y", "mean")]
    curves = [Curve("each step", columns[0], columns[1], PALE), Curve("mean", columns[0], columns[2], BLUE)]
    return Plot(title, "steps", label, curves)
