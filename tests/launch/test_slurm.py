"""A real SLURM, two nodes on loopback: every way in which a job ends, and how the run goes on."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trainer.trackers import read_metrics

pytestmark = pytest.mark.slurm

STEPS = 12
# Two ranks on two nodes; what a test does not look at is left out to save time.
JOB = ["launch=slurm", "launch.nodes=2", "launch.preflight=false", "launch.restarts=0", "launch.time=20"]
SLOW = """
import os, time
if "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_RESTART_COUNT", 0)) < int(os.environ["SLOW_ATTEMPTS"]):
    import trainer.training.lr_schedule as schedule
    quick = schedule.learning_rate
    def slow(*arguments):
        time.sleep(4)
        return quick(*arguments)
    schedule.learning_rate = slow
"""

HOOK = """
from trainer.descriptions.hooks import HookDescription
from trainer.utils.schema import key

class Mine(HookDescription):
    name, help, implementation, off = "mine", "a file of each rank", "mine:hook", ("mine", False)

    class Keys(HookDescription.Keys):
        mine: bool = key(False, "a file of each rank")

def hook(config, run):
    import os
    from trainer.training.hooks import Hook

    class Said(Hook):
        def closed(self, status, step, text):
            (run / f"hook.{os.environ['RANK']}").write_text(f"{status} {step}")

    return Said()
"""


class Runs:
    """Launches runs of one folder on the cluster, and reads what became of them."""

    def __init__(self, isoflop: Any, slurm: Any, tiny: list[str]) -> None:
        self.isoflop, self.slurm, self.tiny = isoflop, slurm, tiny
        (isoflop.folder / "slow").mkdir()
        (isoflop.folder / "slow" / "sitecustomize.py").write_text(SLOW)

    def __call__(self, *words: str, slow_attempts: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        slow = {"PYTHONPATH": str(self.isoflop.folder / "slow"), "SLOW_ATTEMPTS": str(slow_attempts)}
        return self.isoflop(*words, SLURM_CONF=str(self.slurm.file), **(slow if slow_attempts else {}), **environment)

    def launch(self, name: str, *words: str, slow_attempts: int = 0) -> str:
        """Submit a run; returns the job id."""
        done = self("launch", *self.tiny, *JOB, f"run.id={name}", *words, slow_attempts=slow_attempts)
        assert done.returncode == 0, done.stderr
        found = re.search(r"submitted (?:job|array) (\d+)", done.stdout)
        assert found, done.stdout
        return found[1]

    def folder(self, name: str) -> Path:
        return self.isoflop.folder / "runs" / "llama-mini-causal-text" / name

    def losses(self, name: str) -> dict[int, float]:
        return {one["step"]: one["loss"] for one in read_metrics(self.folder(name)) if one["kind"] == "step"}

    def events(self, name: str) -> list[str]:
        file = self.folder(name) / "events.jsonl"
        return [json.loads(line)["name"] for line in file.read_text().splitlines()] if file.exists() else []

    def log(self, name: str) -> str:
        return "\n".join(f"{file}:\n{file.read_text()}" for file in sorted((self.folder(name) / "logs").glob("*.out")))

    def wait_for_step(self, name: str, step: int) -> None:
        self.slurm.wait(lambda: step in self.losses(name), 180, lambda: f"no step {step}\n{self.log(name)}")

    def wait_until_done(self, name: str, job: str, *states: str) -> None:
        found = self.slurm.wait_for(
            job, *states, "FAILED", "CANCELLED", "TIMEOUT", "COMPLETED", "NODE_FAIL", seconds=180
        )
        assert found["JobState"] in states, (found["JobState"], found["ExitCode"], self.log(name))


@pytest.fixture
def runs(isoflop: Any, slurm: Any, tiny: list[str]) -> Runs:
    return Runs(isoflop, slurm, tiny)


@pytest.fixture(scope="module")
def undisturbed(command: Any, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of the same run on two ranks of this host."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = command(folder)("train", *tiny, "run.id=here", "launch.processes=2")
    assert done.returncode == 0, done.stderr
    run = folder / "runs" / "llama-mini-causal-text" / "here"
    return {one["step"]: one["loss"] for one in read_metrics(run) if one["kind"] == "step"}


def test_two_nodes_train_as_this_host_does(runs: Runs, undisturbed: dict[int, float]) -> None:
    job = runs.launch("two", "launch.preflight=true")
    runs.wait_until_done("two", job, "COMPLETED")
    assert runs.losses("two") == undisturbed
    seen = json.loads((runs.folder("two") / "preflight.json").read_text())
    assert {one["node"] for one in seen["ranks"]} == {"n1", "n2"}
    assert seen["complaints"] == []
    assert seen["all_reduce_bytes_per_second"] > 0
    assert (runs.folder("two") / "report.html").exists()
    assert sorted(
        path.name for path in (runs.folder("two") / "launches" / "1").iterdir() if path.suffix != ".diff"
    ) == [
        "code.json",
        "config.yaml",
        "job.sh",
        "launch.json",
    ]
    status = json.loads(runs("status", "--json").stdout)
    assert [(one["run"], one["state"], one["step"]) for one in status] == [
        ("llama-mini-causal-text/two", "finished", STEPS)
    ]


def test_both_nodes_import_a_plugin(runs: Runs, undisturbed: dict[int, float]) -> None:
    """A hook that lies beside the user leaves a file of each rank, and changes no loss."""
    (runs.isoflop.folder / "mine.py").write_text(HOOK)
    job = runs.launch("hooked", "plugins=mine", "hooks.mine=true", "launch.starter=torchrun")
    runs.wait_until_done("hooked", job, "COMPLETED")
    assert runs.losses("hooked") == undisturbed
    told = {file.name: file.read_text() for file in runs.folder("hooked").glob("hook.*")}
    assert told == {f"hook.{rank}": f"finished {STEPS}" for rank in range(2)}, runs.log("hooked")


@pytest.mark.parametrize("starter", ["srun", "torchrun"])
def test_preflight_alone_checks_every_node(starter: str, runs: Runs) -> None:
    done = runs("preflight", *runs.tiny, *JOB, f"launch.starter={starter}", "--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {one["node"] for one in seen["ranks"]} == {"n1", "n2"}
    assert seen["complaints"] == []
    assert re.search(r"job \d+ checks 2 nodes", done.stderr)
    assert [one.name for one in (runs.isoflop.folder / "runs").iterdir()] == ["costs"]
    wrong = runs("preflight", *runs.tiny, *JOB, "launch.setup=['cd /nowhere || exit 3']")
    assert wrong.returncode == 2
    assert "ended before it had checked its nodes" in wrong.stderr
    assert "/nowhere: No such file or directory" in wrong.stderr


def test_a_sweep_is_one_array(runs: Runs) -> None:
    words = [*runs.tiny, *JOB, "launch.nodes=1", "launch.array_limit=1", "seed=0,1", "run.id=s0,s1", "budget.steps=2"]
    refused = runs("launch", "-m", *words, "engine.threads=2")
    assert refused.returncode == 2
    assert "runs of the sweep would share" in refused.stderr
    words = [word for word in words if not word.startswith("run.id=")]
    done = runs("launch", "-m", *words)
    assert done.returncode == 0, done.stderr
    array = done.stdout.split("submitted array ")[1].split(":")[0]
    folders = sorted(path.parent for path in (runs.isoflop.folder / "runs").glob("*/*/config.yaml"))
    assert len(folders) == 2
    for number, folder in enumerate(folders):
        runs.wait_until_done(folder.name, f"{array}_{number}", "COMPLETED")
        assert sorted(runs.losses(folder.name)) == [1, 2]
        kept = json.loads((folder / "launches" / "1" / "launch.json").read_text())
        assert kept["jobs"] == [f"{array}_{number}"]
    assert runs.losses(folders[0].name) != runs.losses(folders[1].name)


def test_wall_limit_saves_requeues_and_goes_on(runs: Runs, undisturbed: dict[int, float]) -> None:
    """Two minutes of wall time, USR2 75 s before its end, and slow steps at the first attempt."""
    job = runs.launch("wall", "launch.time=2", "launch.save_seconds=75", "checkpoint.every_steps=null", slow_attempts=1)
    runs.wait_until_done("wall", job, "COMPLETED")
    events = runs.events("wall")
    assert events[0] == "start"
    assert "stopped" in events
    assert events.count("resume") == 1
    assert events[-1] == "finished"
    assert "stopped before the end; back into the queue" in runs.log("wall")
    assert runs.losses("wall") == undisturbed
    stopped = [one["step"] for one in map(json.loads, (runs.folder("wall") / "events.jsonl").read_text().splitlines())]
    assert 0 <= stopped[events.index("stopped")] < STEPS


def test_preempted_by_an_urgent_job(runs: Runs, undisturbed: dict[int, float]) -> None:
    job = runs.launch("preempted", "launch.partition=main", slow_attempts=1)
    runs.wait_for_step("preempted", 2)
    urgent = runs.slurm(
        "sbatch", "--parsable", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap=sleep 2"
    )
    runs.slurm.wait_for(urgent.strip(), "COMPLETED")
    runs.wait_until_done("preempted", job, "COMPLETED")
    assert int(runs.slurm.job(job)["Restarts"]) == 1
    assert "resume" in runs.events("preempted")
    assert runs.losses("preempted") == undisturbed


def test_cancel_saves_and_stays_cancelled(runs: Runs) -> None:
    job = runs.launch("cancelled", "checkpoint.every_steps=null", slow_attempts=9)
    runs.wait_for_step("cancelled", 2)
    busy = runs("status", "--json")
    assert json.loads(busy.stdout)[0]["state"] == "running"
    done = runs("cancel", "llama-mini-causal-text/cancelled")
    assert done.returncode == 0, done.stderr
    assert f"cancelled job {job}" in done.stdout
    runs.wait_until_done("cancelled", job, "CANCELLED")
    runs.slurm.wait(lambda: runs.events("cancelled")[-1] == "stopped", 60)
    assert list((runs.folder("cancelled") / "checkpoints").glob("step-*"))
    assert "resume" not in runs.events("cancelled")
    assert runs.slurm.job(job)["Restarts"] == "0"
    again = runs("cancel", "llama-mini-causal-text/cancelled")
    assert again.returncode == 2
    assert "no job of it is in the queue" in again.stderr


def test_a_node_whose_power_goes(runs: Runs, undisturbed: dict[int, float]) -> None:
    job = runs.launch("lost", slow_attempts=1)
    runs.wait_for_step("lost", 5)
    runs.slurm.kill_node("n2")
    try:
        runs.slurm.wait(lambda: runs.slurm.job(job)["JobState"] != "RUNNING", 60)
    finally:
        runs.slurm.start_node("n2")
    runs.slurm.wait_for(job, "COMPLETED", "FAILED", seconds=180)
    runs.wait_until_done("lost", job, "COMPLETED")
    assert "resume" in runs.events("lost")
    assert runs.losses("lost") == undisturbed


def test_requeues_have_a_cap_and_torchrun_hands_the_signal_on(runs: Runs) -> None:
    """Two attempts are stopped by USR2; the second one finds the cap. One agent of torchrun a node."""
    words = ["launch.requeues=1", "launch.starter=torchrun", "checkpoint.every_steps=null"]
    job = runs.launch("capped", *words, slow_attempts=9)
    for attempt, step in enumerate((1, 4)):
        runs.wait_for_step("capped", step)
        runs.slurm("scancel", "--signal=USR2", job)
        runs.slurm.wait(
            lambda n=attempt: runs.events("capped").count("stopped") == n + 1, 60, lambda: runs.log("capped")
        )
    runs.wait_until_done("capped", job, "FAILED")
    assert runs.slurm.job(job)["ExitCode"] == "75:0"
    assert runs.slurm.job(job)["Restarts"] == "1"
    assert "stopped before the end; launch.requeues=1 are used up" in runs.log("capped")


def test_lost_ranks_start_again_on_the_same_nodes(runs: Runs, undisturbed: dict[int, float]) -> None:
    """kill -9 of one rank: the step ends, the next one goes on from the checkpoint, in the same job."""
    job = runs.launch("killed", "launch.restarts=1", slow_attempts=1)
    runs.wait_for_step("killed", 5)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SLURM_JOB_ID={job}".encode() in variables and b"SLURM_PROCID=1" in variables and b"launch.rank" in words:
            subprocess.run(["kill", "-9", process.name], check=True)
    runs.wait_until_done("killed", job, "COMPLETED")
    assert runs.slurm.job(job)["Restarts"] == "0"
    assert "ranks were lost" in runs.log("killed")
    assert runs.losses("killed") == undisturbed


def test_a_second_job_finds_the_folder_held(runs: Runs) -> None:
    first = runs.launch("held", "launch.nodes=1", slow_attempts=9)
    runs.wait_for_step("held", 1)
    script = runs.folder("held") / "launches" / "1" / "job.sh"
    second = runs.slurm("sbatch", "--parsable", str(script)).strip()
    runs.wait_until_done("held", second, "FAILED")
    assert runs.slurm.job(second)["ExitCode"] == "2:0"
    assert re.search(rf"held: in use by process \d+ on \S+ \(job {first}\)", runs.log("held"))
    assert runs.slurm.job(first)["JobState"] == "RUNNING"
    runs.slurm("scancel", first)


def test_sbatch_refuses_in_its_own_words(runs: Runs) -> None:
    done = runs("launch", *runs.tiny, *JOB, "run.id=nowhere", "launch.partition=moon")
    assert done.returncode == 2
    assert "isoflop: sbatch: Batch job submission failed: Invalid partition name specified" in done.stderr.replace(
        "invalid partition specified: moon ", ""
    )
    assert "moon" in done.stderr
    assert "Traceback" not in done.stderr


def test_sbatch_reads_nasty_values_as_they_were_given(runs: Runs) -> None:
    root = runs.isoflop.folder / "it's 100% $(touch boom)"
    words = ["budget.steps=1", "launch.nodes=1", r"""launch.sbatch=['--comment=a "b" $(touch boom) it\'s']"""]
    quoted = str(root).replace("'", r"\'")
    done = runs("launch", *runs.tiny, *JOB, "run.id=nasty", f"run.root='{quoted}'", *words)
    assert done.returncode == 0, done.stderr
    job = done.stdout.split("submitted job ")[1].split(";")[0]
    shown = runs.slurm("scontrol", "show", "job", job)
    assert """Comment=a "b" $(touch boom) it's""" in shown
    run = root / "llama-mini-causal-text" / "nasty"
    runs.slurm.wait_for(job, "COMPLETED", "FAILED")
    assert runs.slurm.job(job)["JobState"] == "COMPLETED", (run / "logs" / f"slurm-{job}.out").read_text()
    assert (run / "logs" / f"{job}-0.out").exists()
    assert not list(runs.isoflop.folder.rglob("boom"))


def test_no_secret_is_written_anywhere(runs: Runs) -> None:
    secret = "hunter2-hunter2-hunter2"
    done = runs("launch", *runs.tiny, *JOB, "run.id=quiet", "launch.nodes=1", "budget.steps=1", WANDB_API_KEY=secret)
    assert done.returncode == 0, done.stderr
    job = done.stdout.split("submitted job ")[1].split(";")[0]
    runs.wait_until_done("quiet", job, "COMPLETED")
    for path in runs.folder("quiet").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert secret not in done.stdout + done.stderr
    leak = runs("launch", *runs.tiny, *JOB, "run.id=leak", f"tracker.project={secret}", WANDB_API_KEY=secret)
    assert leak.returncode == 2
    assert "$WANDB_API_KEY" in leak.stderr
    assert secret not in leak.stderr
