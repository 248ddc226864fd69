"""A tuning run from its parent: the parent's model and tokenizer, a task, and the habits of fine-tuning."""

from __future__ import annotations

from trainer.compose import change, differences, in_quotes
from trainer.config import (
    BranchConfig,
    BudgetConfig,
    Config,
    InitConfig,
    MixingConfig,
    OptimConfig,
    RunConfig,
    TaskConfig,
    TokenizerConfig,
    TrackerConfig,
)
from trainer.config.dropout_rates import DROPOUT, PAPER
from trainer.descriptions.trackers import TRACKERS
from trainer.run_folder import RunFolder, find_run
from trainer.tasks import Examples, classes, longest, open_task
from trainer.tasks.rewards import reward_run
from trainer.utils.errors import UserError

ROUND = 8  # rows are a multiple of so many tokens long: what tensor cores take whole
MODEL = {"dropout": PAPER, "attention_dropout": PAPER}
OPTIM = {"lr": 5e-4, "schedule": "linear", "min_lr_ratio": 0.0, "weight_decay": 0.01}
POLICY_LR = 1e-4  # of a policy that learns from rewards
ANSWERED = 64  # held-out prompts that such a policy answers in an evaluation
EPOCHS = 3  # of a tuning run without a budget (Devlin et al. 2019, appendix A.3: 2 to 4)


def tuned(parent: RunFolder, words: list[str]) -> Config:
    """The configuration of tuning a run by these overrides: its model, corpus and machinery, an optimizer of its own.

    Classes that are not given are those of the training records, rows are as long as the longest record and no longer
    than the parent's, and without a budget it is three epochs; all are then stated. Raises UserError for bad records
    too.
    """
    before = parent.load_config()
    if not parent.tokenizer.is_file():
        raise UserError(f"{parent.path}: has no tokenizer, so that no text can be read for it")
    base = before.model_copy(
        update={
            "model": before.model.model_copy(
                update=MODEL | {"vocabulary": before.vocabulary, "max_length": before.max_length}
            ),
            "data": before.data.model_copy(update={"stages": (), "tasks": {}, "mixing": MixingConfig()}),
            "tokenizer": TokenizerConfig(
                path=str(parent.tokenizer.absolute()), special_ids=before.tokenizer.special_ids
            ),
            "optim": OptimConfig.model_validate(OPTIM),
            "budget": BudgetConfig(steps=1),
            "run": RunConfig(root=before.run.root, cache=before.run.cache, project=before.run.project),
            "task": TaskConfig(),
            "tracker": of_no_run(before.tracker),
            "init": InitConfig(),
            "branch": BranchConfig(),
        }
    )
    if not any(word.startswith(("task=", "task.kind=")) for word in words):
        raise UserError("task: name one, e.g. task=swapped; isoflop finetune --help lists them")
    config = change(base, [*words, f"task.parent={in_quotes(str(parent.path.absolute()))}"])
    if config.task.writes:
        config = _of_policy(config, words)
    _same_weights(base, config)
    task = open_task(config)
    if not config.task.labels:
        config = _with(config, "task", labels=classes(config, task))
    if not any(word.startswith("data.sequence_length=") for word in words):
        rounded = -(-longest(config, task) // ROUND) * ROUND
        config = _with(config, "data", sequence_length=min(rounded, config.data.sequence_length))
    if not any(word.startswith(("budget.", "budget=")) for word in words):
        samples = EPOCHS * len(Examples(task, config, "train"))
        config = _with(config, "budget", steps=config.curriculum.steps_of_samples(samples))
    if config.task.reward is not None:
        reward_run(config)
    return config


def _of_policy(config: Config, words: list[str]) -> Config:
    """The habits of learning from rewards, where the words say nothing else: no dropout, so that what learns is what
    wrote; a smaller rate; held-out answers to some of the prompts. The reward's run by its folder.

    Raises UserError for dropout, and for a run that is not there."""

    def said(*names: str) -> bool:
        return any(word.startswith(names) for word in words)

    if said("model.dropout=", "model.attention_dropout="):
        if config.model.drops:
            raise UserError("model.dropout: a policy learns from what it writes without dropout; leave it out")
    else:
        config = _with(config, "model", dropout=0.0, attention_dropout=0.0)
    if not said("optim.lr=", "optim="):
        config = _with(config, "optim", lr=POLICY_LR)
    if not said("evaluation.samples="):
        config = _with(config, "evaluation", samples=ANSWERED)
    if config.task.reward is not None:
        try:
            folder = find_run(config.task.reward, config.run.root)
        except UserError as error:
            raise UserError(f"task.reward: {error}") from None
        config = _with(config, "task", reward=str(folder.path.absolute()))
    return config


def _same_weights(parent: Config, config: Config) -> None:
    """Raise UserError where a key of the model is changed whose weights shall come from the parent."""
    changed = differences(parent.model.model_dump(), config.model.model_dump())
    free = (*DROPOUT, *(() if config.model.position == "learned" else ("max_length",)))
    changed = {key: values for key, values in changed.items() if key not in free}
    if changed and config.task.begins_from_parent:
        key, (before, now) = next(iter(changed.items()))
        raise UserError(f"model.{key}: {now!r} given, the parent's weights are of {before!r}")


def of_no_run(tracker: TrackerConfig) -> TrackerConfig:
    """Without what names the parent in a tracker, and without its prompts: another task has others, or none."""
    names = [name for one in TRACKERS.values() for name in one.of_one_run]
    return tracker.model_copy(update={name: type(tracker).model_fields[name].default for name in (*names, "samples")})


def _with(config: Config, section: str, **values: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})
