"""On-policy reinforcement learning: a policy learns from rewards of the texts that it writes. An example to be read.

    python examples/onpolicy.py <run> [<run of a reward model>] [to=<new run>] [prompt='def '] [steps=50]

Without a reward model short answers are rewarded. The policy is saved as a run folder (`<run>-onpolicy`, or `to=`) that
`isoflop generate`, `eval` and `export` read; its onpolicy.json has the settings, and reward and KL of every step.

REINFORCE (Williams 1992) with the mean reward of the other samples of the same prompt as baseline (RLOO; Kool et al.
2019; Ahmadian et al. 2024, section 3.2), and the KL divergence from the initial policy as part of the reward (Ziegler
et al. 2019, equation 2; Ouyang et al. 2022, section 3.5). One process, and one checkpoint, at the end: for more, export
the run and use a library that is made for it.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import TaskConfig
from trainer.data import Tokenizer
from trainer.generation.loaded_model import Trained, load_model
from trainer.generation.text import prompt_ids
from trainer.hub.files import new_folder
from trainer.models import NOT_A_TARGET, Model
from trainer.models.preference import answer_likelihood
from trainer.models.task_heads import RewardHead
from trainer.run_folder import RunFolder, find_run
from trainer.tasks.formats import Rows
from trainer.training.checkpoint import save_weights
from trainer.utils.errors import UserError, nearest

Reward = Callable[[list[list[int]]], Tensor]  # of the answers' tokens, one number each


@dataclass(frozen=True)
class OnPolicy:
    """Settings of the algorithm."""

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
    policy: Model, prompts: Sequence[list[int]], reward: Reward, settings: OnPolicy, *, end: int, pad: int, room: int
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
    policy: Model, prompt: list[int], settings: OnPolicy, generator: torch.Generator, *, end: int, room: int
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


def learned(run: Path, prompt: str, own: Tokenizer) -> Reward:
    """The score of a reward model for prompt and answer, as it was trained to read them. own: of the policy."""
    model, config, _ = load_model(run)
    if not isinstance(getattr(model, "head", None), RewardHead):
        raise UserError(f"{run}: a reward model wanted, as isoflop finetune <run> task=reward makes it")
    tokenizer, end = Tokenizer(RunFolder(run).tokenizer), own.specials["</s>"]
    if tokenizer.sha256 != own.sha256:
        raise UserError(f"{run}: it has another tokenizer than the run that is to learn from it")
    form, device = Rows(config, tokenizer), next(model.parameters()).device

    @torch.no_grad()
    def reward(answers: list[list[int]]) -> Tensor:
        texts = [[token for token in answer if token != end] for answer in answers]
        each = [form.arrays(*form.row([own.encode(prompt), text])[:2]) for text in texts]
        batch = {name: torch.from_numpy(np.stack([one[name] for one in each])).to(device) for name in each[0]}
        return model.logits(**batch)[:, 0]

    return reward


def short(answers: list[list[int]]) -> Tensor:
    """Minus the answer's length, in tens of tokens."""
    return -torch.tensor([len(answer) / 10 for answer in answers])


def save_run(
    target: Path, trained: Trained, settings: OnPolicy, history: Sequence[Progress], facts: dict[str, str]
) -> None:
    """Write the policy as a run folder with a checkpoint of step 0; complete or absent. facts: for onpolicy.json.

    Raises UserError where the folder exists."""
    config = trained.config
    if config.task.reference:  # the policy is a plain decoder: the reference of DPO is gone
        config = config.model_copy(update={"task": TaskConfig()})
    with new_folder(target.absolute()) as aside:
        folder = RunFolder(aside)
        folder.config.write_text(config.to_yaml())
        shutil.copyfile(RunFolder(trained.run).tokenizer, folder.tokenizer)
        record = {**facts, "settings": asdict(settings), "steps": [asdict(step) for step in history]}
        (aside / "onpolicy.json").write_text(json.dumps(record, indent=1) + "\n")
        weights = {name: value.detach().cpu() for name, value in trained.model.named_parameters()}
        save_weights(folder.checkpoints, weights, {"science": config.science_hash(), "data": "", "best": {}})


def main(words: list[str]) -> None:
    """Learn, print reward and KL of every fifth step, and save the policy."""
    runs = [find_run(word, "runs").path for word in words if "=" not in word]
    prompt, steps, to = _options([word for word in words if "=" in word])
    if len(runs) not in (1, 2):
        raise UserError(f"onpolicy: name a run, and perhaps the run of a reward model; got {len(runs)}")
    target = Path(to).expanduser() if to else runs[0].with_name(f"{runs[0].name}-onpolicy")
    if target.exists():
        raise UserError(f"onpolicy: to: {target} exists; name another folder")
    trained = Trained.load(runs[0])
    policy, own, room = trained.model, trained.tokenizer, trained.config.max_length
    if trained.family != "decoder":
        raise UserError(f"{runs[0]}: a decoder wanted, this is an {trained.family.replace('_', '-')}")
    ids = prompt_ids(trained, prompt)
    if len(ids) >= room:
        raise UserError(f"prompt: {len(ids)} tokens, and {runs[0].name} reads {room}: nothing can be answered")
    reward = learned(runs[1], prompt, own) if runs[1:] else short
    end, pad = trained.special("</s>"), trained.special("<pad>")
    settings = OnPolicy(steps=steps)
    history = reinforce(policy, [ids], reward, settings, end=end, pad=pad, room=room)
    for step, seen in enumerate(history, 1):
        if step % 5 == 0:
            print(f"step {step:>3}  reward {seen.reward:8.4f}  KL {seen.kl:7.4f} nats")
    facts = {"policy": str(runs[0]), "reward": str(runs[1]) if runs[1:] else "short answers", "prompt": prompt}
    save_run(target, trained, settings, history, facts)
    print(f"saved {target}")


def _options(words: list[str]) -> tuple[str, int, str]:
    """The prompt, the number of steps, and the folder to save to, '' for the default. Raises UserError."""
    options = {"prompt": "def ", "steps": str(OnPolicy.steps), "to": ""}
    for name, _, value in (word.partition("=") for word in words):
        if name not in options:
            raise UserError(f"onpolicy: {name}: no such option{nearest(name, options)}; there is {', '.join(options)}")
        options[name] = value
    if not options["steps"].isdigit() or not int(options["steps"]):
        raise UserError(f"onpolicy: steps: {options['steps']!r} given, a whole number from 1 wanted")
    return options["prompt"], int(options["steps"]), options["to"]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print("\n".join(f"isoflop: {line}" for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
