"""Learning from rewards of the model's own texts: a small example of on-policy training, to be read.

    python -m trainer.onpolicy <run> [<run of a reward model>] [prompt='def ']      # without one: short answers

REINFORCE (Williams 1992) with the mean reward of the other samples of the same prompt as baseline (RLOO; Kool et al.
2019; Ahmadian et al. 2024, section 3.2), and the KL divergence from the frozen beginning as part of the reward (Ziegler
et al. 2019, equation 2; Ouyang et al. 2022, section 3.5). One process, no checkpoints of its own: whoever needs more
exports the run and takes a library that is made for it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.data import Tokenizer
from trainer.errors import UserError
from trainer.folder import RunFolder, find_run
from trainer.models import NOT_A_TARGET, Decoder
from trainer.models.tuned import RewardModel, answer_likelihood
from trainer.trained import load_model

Reward = Callable[[list[list[int]]], Tensor]  # of the answers' tokens, one number each


@dataclass(frozen=True)
class OnPolicy:
    """How to learn."""

    steps: int = 50
    samples: int = 8  # answers to a prompt, one prompt a step; at least 2
    tokens: int = 24  # of an answer at most
    lr: float = 1e-4
    beta: float = 0.05  # reward that a nat of KL divergence costs
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """One step: means over its answers."""

    reward: float
    kl: float  # nats per answer, of the policy from its beginning


def reinforce(
    policy: Decoder, prompts: Sequence[list[int]], reward: Reward, settings: OnPolicy, *, end: int, pad: int, room: int
) -> list[Progress]:
    """Teach `policy` in place; returns what every step saw. prompts: token ids with <s>; end: the id of </s>; room:
    tokens that the model can read."""
    reference = copy.deepcopy(policy).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=settings.lr, weight_decay=0.0)
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(settings.seed)
    history = []
    for step in range(settings.steps):
        prompt = prompts[step % len(prompts)]
        answers = sample(policy, prompt, settings, generator, end=end, room=room)
        batch, targets = rows(prompt, answers, pad, device)
        with torch.no_grad():
            before = answer_likelihood(reference, targets, **batch)
        now = answer_likelihood(policy, targets, **batch)
        divergence = (now - before).detach()
        earned = reward(answers).to(device) - settings.beta * divergence
        others = (earned.sum() - earned) / max(1, len(earned) - 1)
        loss = -((earned - others) * now).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        history.append(Progress(float((earned + settings.beta * divergence).mean()), float(divergence.mean())))
    return history


@torch.no_grad()
def sample(
    policy: Decoder, prompt: list[int], settings: OnPolicy, generator: torch.Generator, *, end: int, room: int
) -> list[list[int]]:
    """Answers to one prompt at temperature 1, each with its </s> where it came to an end."""
    device = next(policy.parameters()).device
    tokens = torch.tensor([prompt] * settings.samples, device=device)
    ended = torch.zeros(settings.samples, dtype=torch.bool, device=device)
    for _ in range(min(settings.tokens, room - len(prompt))):
        chances = F.softmax(policy.logits(tokens)[:, -1].float(), dim=-1)
        drawn = torch.multinomial(chances, 1, generator=generator)
        tokens = torch.cat((tokens, torch.where(ended[:, None], end, drawn)), dim=1)
        ended |= drawn[:, 0] == end
        if bool(ended.all()):
            break
    answers = tokens[:, len(prompt) :].tolist()
    return [answer[: answer.index(end) + 1] if end in answer else answer for answer in answers]


def rows(
    prompt: list[int], answers: list[list[int]], pad: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """What the model reads, and the answers as its targets, [B, S]."""
    width = len(prompt) + max(map(len, answers)) - 1
    tokens = torch.full((len(answers), width), pad, device=device)
    segments = torch.full((len(answers), width), -1, dtype=torch.int32, device=device)
    targets = torch.full((len(answers), width), NOT_A_TARGET, device=device)
    for row, answer in enumerate(answers):
        read = torch.tensor([*prompt, *answer[:-1]], device=device)
        tokens[row, : len(read)], segments[row, : len(read)] = read, 0
        targets[row, len(prompt) - 1 : len(read)] = torch.tensor(answer, device=device)
    positions = torch.arange(width, device=device).expand(len(answers), width)
    return {"tokens": tokens, "segments": segments, "positions": positions}, targets


def learned(run: Path, prompt: list[int], pad: int) -> Reward:
    """The score of a reward model for prompt and answer, read as one text: `<s> prompt answer </s>`."""
    model, config, _ = load_model(run)
    if not isinstance(model, RewardModel) or config.model.family != "decoder":
        raise UserError(f"{run}: a reward model over a decoder wanted, as isoflop finetune <run> task=reward makes it")
    device = next(model.parameters()).device

    @torch.no_grad()
    def reward(answers: list[list[int]]) -> Tensor:
        batch, _ = rows(prompt, [[*answer, pad] for answer in answers], pad, device)
        return model.logits(**batch)[:, 0]

    return reward


def short(answers: list[list[int]]) -> Tensor:
    """Minus the answer's length, in tens of tokens."""
    return -torch.tensor([len(answer) / 10 for answer in answers])


def main(words: list[str]) -> None:
    """Learn, and print what every fifth step saw."""
    prompts = [word.removeprefix("prompt=") for word in words if word.startswith("prompt=")] or ["def "]
    runs = [find_run(word, "runs").path for word in words if not word.startswith("prompt=")]
    if len(runs) not in (1, 2):
        raise UserError("onpolicy: name a run, and perhaps the run of a reward model")
    policy, config, _ = load_model(runs[0])
    if not isinstance(policy, Decoder):
        raise UserError(f"{runs[0]}: a decoder wanted, the run is of the family {config.model.family}")
    own = Tokenizer(RunFolder(runs[0]).tokenizer)
    prompt, pad = [own.specials["<s>"], *own.encode(prompts[0])], own.specials["<pad>"]
    reward = learned(runs[1], prompt, pad) if runs[1:] else short
    settings = OnPolicy()
    room = config.max_length - 2  # a reward model reads a token more
    history = reinforce(policy, [prompt], reward, settings, end=own.specials["</s>"], pad=pad, room=room)
    for step, seen in enumerate(history, 1):
        if step % 5 == 0:
            print(f"step {step:>3}  reward {seen.reward:8.4f}  KL {seen.kl:7.4f} nats")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"isoflop: {error}")
