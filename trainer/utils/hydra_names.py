"""What Hydra's own keys and flags are called here. Each works, or is refused with the way out; none is ignored."""

from __future__ import annotations

from trainer.utils.errors import UserError

# Beginning of a key -> what to write. The longest that fits counts.
KEYS = {
    "hydra.run.dir": "a run lives in <run.root>/<run.experiment>/<run.id>; set these",
    "hydra.sweep": "runs of a sweep live in <run.root>/<run.experiment>; set these",
    "hydra.job.name": "the name of an experiment is run.experiment",
    "hydra.job.chdir": "no run changes its directory; its files go to the folder run.root/run.experiment/run.id",
    "hydra.job.env_set": "variables of the ranks are launch.environment.<NAME>=value",
    "hydra.job.env_copy": "variables that ranks on other hosts get are launch.pass_environment=[NAME]",
    "hydra.job.override_dirname": "a run's folder is run.id; its overrides stand in overrides.json",
    "hydra.searchpath": "name the directory by --config-dir or ISOFLOP_CONFIG_DIR",
    "hydra.output_subdir": "config.yaml and overrides.json stand in the run folder",
    "hydra.mode": "many runs are asked for by -m",
    "hydra.launcher": "a launcher is an option of the group launch: launch=slurm launch.nodes=4",
    "hydra.sweeper": "swept values stand behind -m; isoflop sweep search=optuna searches",
    "hydra.verbose": "what a run says is tracker.console and its files; there is no other log",
    "hydra.job_logging": "what a run says is tracker.console and its files; there is no other log",
    "hydra.hydra_logging": "what a run says is tracker.console and its files; there is no other log",
    "hydra.callbacks": "what hears of a run's steps is a tracker",
    "hydra": "it would have no effect here",
}

# Flag of Hydra's command line -> what to write.
FLAGS = {
    "--hydra-help": "isoflop train --help",
    "--config-path": "--config-dir DIR",
    "-cp": "--config-dir DIR",
    "--shell-completion": "isoflop completion bash",
    "-sc": "isoflop completion bash",
    "--experimental-rerun": "isoflop train resume=<run>, or the words of the run's overrides.json again",
}


def hydras_own(text: str, key: str) -> str:
    """The line about an override of one of Hydra's keys."""
    dotted = key.replace("/", ".")
    known = max((name for name in KEYS if f"{dotted}.".startswith(f"{name}.")), key=len)
    return f"{text}: Hydra's own key: {KEYS[known]}"


def refuse_flags(words: list[str]) -> None:
    """Raise UserError for a flag of Hydra's that is called otherwise here."""
    for word in words:
        flag = word.partition("=")[0]
        if flag in FLAGS:
            raise UserError(f"{flag}: Hydra's own flag; write {FLAGS[flag]}")
