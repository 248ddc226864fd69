"""Batch scripts for SLURM: a pure function of the configuration, the run folders and the place of the launch.

Every value is quoted, for the shell or for sbatch's own reading of #SBATCH lines. The rendezvous is at the *address*
of the first node, because a node's name need not resolve, and on a port made of the job id and the attempt, so that
neither another job nor the attempt before is met there.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.launcher import JobState, Launcher
from launch.plan import Command, LaunchPlan, Resources
from launch.quoting import file_pattern, printable, quote, sbatch_word
from launch.records import keep_state, new_launch, write_launch
from launch.secret import VARIABLE, is_needed
from launch.slurm_header import price_lines, with_cpus
from launch.submit import JOB, STUCK, cancel_jobs, is_live, job_states, require_slurm, submit, wait_for
from trainer.config import Config, LaunchConfig
from trainer.config.placement import groups
from trainer.utils.command_line import command_line
from trainer.utils.errors import UserError
from trainer.utils.files import write_atomic
from trainer.utils.outcomes import BAD_INPUT, DONE, HALTED, STOPPED

WAIT_FOR_RANKS_SECONDS = (
    60  # after the first rank has ended: the others end by themselves, the first one writes the report
)
JOB_MINUTES = "15"  # of a preflight, so that it need not wait for a place in the queue as long as the run will
MAILS = ("END", "FAIL", "REQUEUE")  # what launch.mail is told of
SIGNALLED = 128 + signal.SIGUSR2  # the end was near before a rank could listen
FIRST_PORT, PORTS, PORTS_PER_JOB = 10_000, 20_000, 64  # below the range from which systems give out ports


class SlurmLauncher(Launcher):
    """launch=slurm: a batch job, a chain of them, or an array."""

    def require(self) -> None:
        require_slurm()

    def plan(self, config: Config, run: Path, place: Resources, folder: Path) -> LaunchPlan:
        config, header = headed(config, place)
        return plan_job(config, run, place, folder / "job.sh", header=header)

    def start(self, config: Config, run: Path, plan: LaunchPlan, folder: Path) -> int:
        (run / "logs").mkdir(exist_ok=True)
        jobs = submit(plan)
        write_launch(folder, config.launch.name, jobs=jobs)
        print(f"submitted job {' '.join(jobs)}; {command_line('status', str(run.parent.parent))}")
        return DONE

    def plan_array(self, configs: Sequence[Config], runs: Sequence[Path], folder: Path, place: Resources) -> LaunchPlan:
        if configs[0].launch.chain > 1:
            raise UserError("launch.chain: a sweep is an array; its jobs are put back into the queue (launch.requeues)")
        script = folder / "job.sh"
        first, header = headed(configs[0], place, len(runs))
        configs = [one.model_copy(update={"launch": first.launch}) for one in configs]
        text = batch_script(configs, runs, place, folder, header=header)
        return LaunchPlan((Command(("sbatch", "--parsable", str(script))),), {script: text})

    def submit_array(self, configs: Sequence[Config], runs: Sequence[Path], plan: LaunchPlan, folder: Path) -> str:
        (job,) = submit(plan)
        for number, (config, run) in enumerate(zip(configs, runs, strict=True)):
            kept = new_launch(run)
            keep_state(kept, config.to_yaml())
            write_atomic(kept / "job.sh", plan.files[folder / "job.sh"])
            write_launch(kept, config.launch.name, jobs=(f"{job}_{number}" if len(runs) > 1 else job,))
        return job

    def is_job(self, word: str) -> bool:
        return JOB.fullmatch(word) is not None

    def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        return {
            job: JobState(state, is_live(state), f"{reason}: {STUCK[reason]}" if reason in STUCK else reason)
            for job, (state, reason) in job_states(jobs).items()
        }

    def cancel(self, jobs: Sequence[str]) -> None:
        cancel_jobs(jobs)

    def preflight(self, config: Config, run: Path) -> int:
        """As a batch job with the partition, container and set-up lines of the run; waits for its end."""
        short = {"time": JOB_MINUTES, "chain": 1, "requeues": 0}
        config = config.model_copy(update={"launch": config.launch.model_copy(update=short)})
        (run / "logs").mkdir()
        (job,) = submit(plan_job(config, run, Resources(), run / "job.sh", only_preflight=True))
        nodes = f"{config.launch.nodes} node{'s' * (config.launch.nodes > 1)}"
        print(f"job {job} checks {nodes} as soon as SLURM starts it; Ctrl-C cancels it", file=sys.stderr)
        try:
            wait_for(job)
        except KeyboardInterrupt:
            cancel_jobs([job])
            raise
        said = "".join(log.read_text(errors="replace") for log in sorted((run / "logs").glob("*.out"))).splitlines()
        problems = [line for line in said if line.startswith("isoflop: ")]
        if not problems and (run / "preflight.json").is_file():
            return DONE
        ended = f"isoflop: job {job} ended before it had checked its nodes"
        print("\n".join(problems or [ended, *said]), file=sys.stderr)
        return BAD_INPUT


def headed(config: Config, place: Resources, runs: int = 1) -> tuple[Config, list[str]]:
    """The configuration with what the cluster says of CPUs, and comments for the head of the script."""
    if not place.asks:
        return config, []
    launch, said = with_cpus(config.launch)
    return config.model_copy(update={"launch": launch}), [*price_lines(config, runs), *said]


def plan_job(
    config: Config,
    run: Path,
    place: Resources,
    script: Path,
    *,
    only_preflight: bool = False,
    header: Sequence[str] = (),
) -> LaunchPlan:
    """One run as a batch job, or as `launch.chain` jobs that follow each other. `script` is where the file will lie."""
    text = batch_script([config], [run], place, run / "logs", only_preflight=only_preflight, header=header)
    submit = Command(("sbatch", "--parsable", str(script)))
    return LaunchPlan((submit,) * config.launch.chain, {script: text})


def batch_script(
    configs: Sequence[Config],
    runs: Sequence[Path],
    place: Resources,
    logs: Path,
    *,
    only_preflight: bool = False,
    header: Sequence[str] = (),
) -> str:
    """The batch script of one run, or of an array of runs; `only_preflight`: it checks the nodes and trains nothing.
    header: comments."""
    launch = configs[0].launch
    many = len(runs) > 1
    name = f"{runs[0].parent.name}-{runs[0].name}" if not many else f"{runs[0].parent.name}-{logs.name}"
    parts = [
        "#!/usr/bin/env bash",
        "# shellcheck disable=SC2016  # values are taken as they are",
        f"# {_what(launch, runs)}; written by isoflop launch",
        *header,
        *[
            f"#SBATCH {sbatch_word(option, 'an option of sbatch')}"
            for option in _options(launch, name, logs, len(runs))
        ],
        "",
        "set -uo pipefail",
        f"cd {quote(str(place.folder), 'the working directory')} || exit {BAD_INPUT}",
        *_run(runs),
        f"python={quote(launch.python or place.python, 'launch.python')}",
        "attempt=${SLURM_RESTART_COUNT:-0}  # unset at the first start",
        "",
        *_environment(launch, place),
        "",
        *_cap(launch),
        "",
        _RENDEZVOUS,
        "",
        *_finish(launch, place),
        "",
        *_start(launch, only_preflight, in_blocks=any(map(groups, configs))),
    ]
    return "\n".join(parts) + "\n"


def _what(launch: LaunchConfig, runs: Sequence[Path]) -> str:
    nodes = f"{launch.nodes} node{'s' * (launch.nodes > 1)} x {launch.processes} rank{'s' * (launch.processes > 1)}"
    which = f"{len(runs)} runs from {runs[0].name}" if len(runs) > 1 else runs[0].name
    return re.sub(r"[^\x20-\x7e]", "?", f"{which} on {nodes}")


def _options(launch: LaunchConfig, name: str, logs: Path, runs: int) -> list[str]:
    """The options of sbatch, one a line."""
    tasks = launch.processes if launch.starter == "srun" else 1
    output = "%A-%a" if runs > 1 else "%j"
    gpus = f"--gpus-per-node={launch.gpus_per_node}" if launch.gpus_per_node else None
    options = [
        f"--job-name={name}",
        f"--nodes={launch.nodes}",
        f"--ntasks-per-node={tasks}",
        f"--gres={launch.gres}" if launch.gres else gpus,
        f"--cpus-per-task={_cpus(launch)}" if launch.cpus_per_rank else None,
        f"--mem={launch.memory}" if launch.memory else None,
        f"--partition={launch.partition}" if launch.partition else None,
        f"--account={launch.account}" if launch.account else None,
        f"--qos={launch.qos}" if launch.qos else None,
        f"--constraint={launch.constraint}" if launch.constraint else None,
        f"--exclude={','.join(launch.exclude)}" if launch.exclude else None,
        f"--time={launch.time}" if launch.time else None,
        f"--mail-user={launch.mail}" if launch.mail else None,
        f"--mail-type={','.join(MAILS)}" if launch.mail else None,
        f"--comment={launch.comment}" if launch.comment else None,
        f"--array=0-{runs - 1}" + (f"%{launch.array_limit}" if launch.array_limit else "") if runs > 1 else None,
        "--dependency=singleton" if launch.chain > 1 else None,
        f"--signal=USR2@{launch.save_seconds}",
        "--requeue",
        "--open-mode=append",
        f"--output={file_pattern(str(logs), 'run.root')}/slurm-{output}.out",
        *launch.sbatch,
    ]
    return [option for option in options if option]


def _cpus(launch: LaunchConfig) -> int:
    assert launch.cpus_per_rank is not None
    return launch.cpus_per_rank * (1 if launch.starter == "srun" else launch.processes)


def _run(runs: Sequence[Path]) -> list[str]:
    if len(runs) == 1:
        return [f"run={_run_word(runs[0])}"]
    return ["runs=(", *[f"    {_run_word(run)}" for run in runs], ")", "run=${runs[$SLURM_ARRAY_TASK_ID]}"]


def _run_word(run: Path) -> str:
    file_pattern(str(run), "run.root")  # the ranks' logs lie there
    return quote(str(run), "run.root")


def _environment(launch: LaunchConfig, place: Resources) -> list[str]:
    """What every rank finds, in one place."""
    return [
        "# The environment of every rank; sbatch takes along what was exported where the job was submitted.",
        f"export PYTHONPATH={quote(str(place.home), 'the folder of isoflop')}${{PYTHONPATH:+:$PYTHONPATH}}",
        *[
            f"export {name}={quote(value, f'launch.environment.{name}' if name in launch.environment else f'${name}')}"
            for name, value in {**place.variables, **launch.environment}.items()
        ],
        *[printable(line, "launch.setup") for line in launch.setup],
    ]


def _cap(launch: LaunchConfig) -> list[str]:
    return [
        f'if [ "$attempt" -gt {launch.requeues} ]; then',
        f'    echo "isoflop: put back into the queue $attempt times, launch.requeues={launch.requeues}; given up" >&2',
        "    exit 1",
        "fi",
    ]


_RENDEZVOUS = f"""\
# The first node's address: its name need not resolve. A port of this job and this attempt.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(scontrol -o show node "$first" | tr ' ' '\\n' | sed -n 's/^NodeAddr=//p')
export MASTER_ADDR
port() {{ echo $(({FIRST_PORT} + (SLURM_JOB_ID * {PORTS_PER_JOB} + attempt * 8 + $1 * 2) % {PORTS})); }}"""


_SECRET = [
    "# What tells the agents of this job from strangers; srun takes it along, and it is written nowhere.",
    f"{VARIABLE}=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \\n')",
    f"export {VARIABLE}",
]


def _finish(launch: LaunchConfig, place: Resources) -> list[str]:
    """How the job ends: back into the queue after a stop or where a node is gone, unless it was cancelled meanwhile."""
    lines = [
        "# A node whose power is gone is noticed by SLURM only after SlurmdTimeout, often 5 minutes: ask.",
        'all_nodes_answer() { srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 true; }',
        "",
        "finish() {",
    ]
    if launch.chain > 1:
        return [*lines, '    exit "$1"  # the next job of the chain goes on', "}"]
    way = f"cd %q && {place.command.replace('%', '%%')} launch resume=%q"
    said = f"isoflop: %s; launch.requeues={launch.requeues} are used up; go on with: {way}\\n"
    return [
        *lines,
        '    case "$1" in',
        f'        {STOPPED} | {SIGNALLED}) why="stopped before the end" ;;',
        f'        0 | {BAD_INPUT} | {HALTED}) exit "$1" ;;',
        '        *) all_nodes_answer && exit "$1"; why="a node does not answer" ;;',
        "    esac",
        "    state=$(scontrol -o show job \"$SLURM_JOB_ID\" | tr ' ' '\\n' | sed -n 's/^JobState=//p')",
        f'    if [ "$attempt" -ge {launch.requeues} ]; then',
        f'        printf {quote(said, "the folder of isoflop")} "$why" "$PWD" "$run" >&2',
        '    elif [ "$state" = RUNNING ]; then',
        '        echo "isoflop: $why; back into the queue" >&2',
        '        scontrol requeue "$SLURM_JOB_ID"',
        "    fi",
        '    exit "$1"',
        "}",
    ]


def _start(launch: LaunchConfig, only_preflight: bool, in_blocks: bool) -> list[str]:
    """The checks, then the training, started again where ranks were lost. in_blocks: ranks are numbered node by node,
    which groups of them rely on."""
    if in_blocks and launch.starter == "srun":
        launch = launch.model_copy(update={"srun": ("--distribution=block", *launch.srun)})
    if launch.starter == "torchrun":  # restarts and preflight are the agents' own work
        secret = _SECRET if is_needed(launch) else []
        words = ("--host", '"$MASTER_ADDR"', "--port", '"$MASTER_PORT"', *["--only-preflight"] * only_preflight)
        return [*secret, *_port("0"), _srun(launch, "launch.agent", *words), "finish $?"]
    if only_preflight:
        return [*_port("0"), _srun(launch, "launch.preflight"), "finish $?"]
    lines = []
    if launch.preflight:
        lines = ["# Every node is checked before any trains."]
        lines += [*_port("0"), f"{_srun(launch, 'launch.preflight')} || finish $?", ""]
    return [
        *lines,
        f"for ((start = 1; start <= {launch.restarts + 1}; start++)); do",
        *["    " + line for line in _port('"$start"')],
        '    if [ "$start" -gt 1 ]; then echo "isoflop: ranks were lost (exit code $code); start $start" >&2; fi',
        f"    {_srun(launch, 'launch.rank')}",
        "    code=$?",
        f'    case "$code" in 0 | {BAD_INPUT} | {HALTED} | {STOPPED} | {SIGNALLED}) break ;; esac',
        "    all_nodes_answer || break",
        "done",
        'finish "$code"',
    ]


def _port(start: str) -> list[str]:
    return [f"MASTER_PORT=$(port {start})", "export MASTER_PORT"]


def _srun(launch: LaunchConfig, module: str, *arguments: str) -> str:
    options = ["--kill-on-bad-exit=0", f"--wait={WAIT_FOR_RANKS_SECONDS}"]
    if module != "launch.preflight":  # what is wrong with a node belongs into the job's own log
        options += ["--open-mode=append", '--output="${run//%/%%}/logs/%j-%t.out"']
    if launch.cpus_per_rank:  # srun does not take it over from sbatch
        options.append(f"--cpus-per-task={_cpus(launch)}")
    options += [quote(option, "launch.srun") for option in launch.srun]
    enter: list[str] = []
    if launch.container == "pyxis":
        options.append(quote(f"--container-image={launch.image}", "launch.image"))
        options += [quote(f"--container-mounts={','.join(launch.mounts)}", "launch.mounts")] if launch.mounts else []
        options.append('--container-workdir="$PWD"')
    elif launch.container == "apptainer":
        enter = ["apptainer", "exec", *(["--nv"] if launch.gpus_per_node or launch.gres else [])]
        enter += [word for mount in launch.mounts for word in ("--bind", quote(mount, "launch.mounts"))]
        enter += ['--pwd "$PWD"', quote(str(launch.image), "launch.image")]
    return " ".join(["srun", *options, *enter, '"$python"', "-P", "-m", module, '"$run"', *arguments])
