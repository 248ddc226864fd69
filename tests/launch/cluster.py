"""A SLURM of our own on loopback: a controller and two nodes on ports of their own, without munge or systemd."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

CONFIGURATION = """\
ClusterName=isoflop
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=8
KillWait=20
MinJobAge=300
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n1} CPUs=4 RealMemory=2000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n2} CPUs=4 RealMemory=2000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP PriorityTier=1 GraceTime=15
PartitionName=urgent Nodes=n1,n2 MaxTime=60 State=UP PriorityTier=10
"""


def missing() -> str | None:
    """Why no SLURM can be started here, if so."""
    absent = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(name) is None]
    if absent:
        return f"{absent[0]} is not installed (scripts/setup-slurm installs it)"
    if os.geteuid() != 0:
        return "starting a SLURM needs root"
    return None


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """The daemons are ended by the process ids that we started, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        controller, n1, n2 = free_ports(3)
        self.file = folder / "slurm.conf"
        self.file.write_text(CONFIGURATION.format(folder=folder, controller=controller, n1=n1, n2=n2))
        self.environment = {**os.environ, "SLURM_CONF": str(self.file)}
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        folder.chmod(0o755)

    def start(self) -> None:
        munge = ["munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key"]
        munge += [f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munge.pid"]
        self._start("munged", [*munge, f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed"])
        self.wait(lambda: (self.folder / "munge.socket").exists(), 20)
        self._start("controller", ["slurmctld", "-D", "-c", "-f", str(self.file)])
        for node in ("n1", "n2"):
            self.start_node(node)
        self.wait(lambda: self("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * 4, 20)

    def start_node(self, name: str) -> None:
        (self.folder / f"spool-{name}").mkdir(exist_ok=True)
        self._start(name, ["slurmd", "-D", "-f", str(self.file), "-N", name])

    def kill_node(self, name: str) -> None:
        """kill -9 of the daemon and of every step on that node, as when its power goes."""
        victims = [self.processes.pop(name)]
        victims[0].kill()
        victims[0].wait()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                variables = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            ours = f"SLURM_CONF={self.file}".encode() in variables
            if ours and (f"SLURMD_NODENAME={name}".encode() in variables or f"slurmstepd: [{name}".encode() in command):
                os.kill(int(process.name), signal.SIGKILL)

    def stop(self) -> None:
        self("scancel", "--user=root", "--full", "--signal=KILL", check=False)
        self("scancel", "--user=root", check=False)
        for name in ("n1", "n2", "controller", "munged"):
            if name in self.processes:
                self.processes[name].terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, words: list[str]) -> None:
        with open(self.folder / f"{name}.out", "ab") as out:
            self.processes[name] = subprocess.Popen(
                words, env=self.environment, stdout=out, stderr=out, cwd=self.folder
            )

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        text = self("scontrol", "-o", "show", "job", job)
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def wait(self, ready: Callable[[], bool], seconds: float = 90.0, what: Callable[[], str] = str) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, f"not within {seconds} s; {what()}"
            time.sleep(0.3)

    def wait_for(self, job: str, *states: str, seconds: float = 120.0) -> dict[str, str]:
        self.wait(lambda: self.job(job)["JobState"] in states, seconds, lambda: f"job {job}: {self.job(job)}")
        return self.job(job)
