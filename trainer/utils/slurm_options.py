"""Options of sbatch and srun that would undo what the batch script relies on: each with the reason or our own key.

SLURM takes the last of two equal options, and options by any beginning that is theirs alone (sbatch(1), srun(1)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Long name -> why it cannot be given beside ours.
_NODES = "launch.nodes and launch.processes set it"
_LOGS = "the run folder's logs and `isoflop status` rely on it"
_LAYOUT = {
    "nodes": _NODES,
    "ntasks": _NODES,
    "ntasks-per-node": _NODES,
    "ntasks-per-core": _NODES,
    "ntasks-per-socket": _NODES,
    "ntasks-per-gpu": _NODES,
    "output": _LOGS,
    "open-mode": _LOGS,
}
_GPUS = "launch.gpus_per_node or launch.gres sets it"
SBATCH = _LAYOUT | {
    "signal": "launch.save_seconds sets it: without this signal nothing is saved before the end",
    "requeue": "launch.requeues sets it",
    "no-requeue": "launch.requeues=0 says it",
    "array": "a sweep (-m) sets it",
    "gres": _GPUS,
    "gpus": _GPUS,
    "gpus-per-node": _GPUS,
    "gpus-per-task": _GPUS,
    "gpus-per-socket": _GPUS,
    "time": "launch.time sets it, which is held against launch.save_seconds",
    "time-min": "the run would be ended before launch.save_seconds can count; use launch.time",
    "parsable": "the launcher reads the job's number by it",
    "wait": "the launch would not return; `isoflop status` tells of the job",
    "wrap": "the launcher writes the script",
    "test-only": "no job would be there; --dry-run shows what would be submitted",
    "export-file": "launch.environment and launch.pass_environment say what ranks find",
}
SRUN = _LAYOUT | {
    "wait": "the launcher waits for ranks itself",
    "kill-on-bad-exit": "the launcher ends ranks itself",
    "multi-prog": "the ranks are one program",
    "pty": "ranks have no terminal",
}
SBATCH_LETTERS = {"N": "nodes", "n": "ntasks", "o": "output", "a": "array", "G": "gpus", "t": "time", "W": "wait"}
SBATCH_LETTERS |= {"d": "dependency"}
SRUN_LETTERS = {"N": "nodes", "n": "ntasks", "o": "output", "W": "wait", "K": "kill-on-bad-exit"}
# Options that have a key: two values for one thing, of which SLURM would take the last.
KEYS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "exclude": "exclude",
    "mem": "memory",
    "mem-per-cpu": "memory",
    "mem-per-gpu": "memory",
    "cpus-per-task": "cpus_per_rank",
    "mail-user": "mail",
    "mail-type": "mail",
    "comment": "comment",
}
KEY_LETTERS = {"p": "partition", "A": "account", "q": "qos", "C": "constraint", "x": "exclude", "c": "cpus-per-task"}
# Other options, which none of the above is a beginning of by mistake.
_OTHERS = {"no-kill", "nodelist", "nodefile", "export", "exclusive", "error", "wait-all-nodes", "gpu-bind", "gpu-freq"}
SHORTEST_BEGINNING = 3  # letters of an option's name


def option_name(option: str, letters: dict[str, str], names: Iterable[str]) -> tuple[str, str]:
    """The long name of an option, however it is written, and its value; both of what is unknown as it stands."""
    if not option.startswith("--"):
        letter, value = option[1:2], option[2:].lstrip("= ")
        return letters.get(letter, letter), value
    written, _, value = re.sub(r"^(--[\w-]+)\s+", r"\1=", option)[2:].partition("=")
    known = {*names, *_OTHERS}
    found = [name for name in known if name.startswith(written)] if len(written) >= SHORTEST_BEGINNING else []
    return (written if written in known or len(found) != 1 else found[0]), value


def undoing(options: Iterable[str], refused: dict[str, str], letters: dict[str, str]) -> list[str]:
    """A line for each option that would undo what the script relies on."""
    wrong = []
    for option in options:
        name, value = option_name(option, letters, refused)
        if reason := refused.get(name):
            wrong.append(f"{option}: {reason}")
        elif name == "export" and not re.match(r"ALL(,|$)", value):
            wrong.append(f"{option}: ranks would lack the job's variables; write --export=ALL,...")
    return wrong


def twice(options: Iterable[str], given: dict[str, object]) -> list[str]:
    """A line for each option whose key has a value too. given: the group's keys."""
    wrong = []
    for option in options:
        name, _ = option_name(option, KEY_LETTERS, KEYS)
        if name in KEYS and given.get(KEYS[name]):
            wrong.append(f"{option}: launch.{KEYS[name]}={given[KEYS[name]]} sets it; give one of the two")
    return wrong


def gpus_of(gres: str) -> int | None:
    """GPUs of a node that --gres asks for, as in gpu:a100:8, gpu:4 or gpu; null where it names none or no number."""
    counts = [re.fullmatch(r"gpu(?::[A-Za-z][^:,()]*)?(?::(\d+))?(?:\(.*\))?", part) for part in gres.split(",")]
    found = [int(count[1] or 1) for count in counts if count]
    return sum(found) if found else None


def minutes(time: str) -> float:
    """SLURM's wall time in minutes: minutes, [hours:]minutes:seconds, or days-hours[:minutes[:seconds]]; 0: no end."""
    days, _, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        hours, minute, second = (*parts, 0, 0)[:3]
    elif len(parts) == 1:
        hours, minute, second = 0, parts[0], 0
    else:
        hours, minute, second = (0, *parts)[-3:]
    return int(days or 0) * 1440 + hours * 60 + minute + second / 60
