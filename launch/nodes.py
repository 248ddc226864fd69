"""torchrun over nodes: a command a node, to paste there or started over ssh."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from launch.launcher import Launcher, show
from launch.local import check_local, run_local
from launch.plan import Command, LaunchPlan, Resources
from launch.quoting import printable, quote, quote_secret
from launch.records import write_launch
from launch.secret import MAKE, VARIABLE, is_needed, launch_secret
from trainer.config import Config, LaunchConfig
from trainer.training.faults.signals import heeded
from trainer.utils.errors import UserError
from trainer.utils.outcomes import DONE, FAILED, HALTED, STOPPED

SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15")
SILENT_SECONDS = 15  # after which ssh asks a host whether it is still there


class TorchrunLauncher(Launcher):
    """launch=torchrun: here where no hosts are named, else over ssh or by commands to paste."""

    def plan(self, config: Config, run: Path, place: Resources, folder: Path) -> LaunchPlan:
        return plan_nodes(config, run, place)

    def start(self, config: Config, run: Path, plan: LaunchPlan, folder: Path) -> int:
        launch = config.launch
        write_launch(folder, launch.name, stays=launch.is_here or launch.ssh)
        if launch.is_here:
            return run_local(config, run)
        if launch.ssh:
            return start_over_ssh(plan, launch)
        show(plan)
        return DONE

    def require_reach(self, config: Config) -> None:
        if config.launch.hosts and not config.launch.ssh:
            raise UserError(
                "preflight reaches other hosts over ssh: add launch.ssh=true; without ssh, a launch checks every node "
                "before it trains"
            )

    def preflight(self, config: Config, run: Path) -> int:
        if config.launch.hosts:
            return start_over_ssh(plan_nodes(config, run, Resources(), only_preflight=True), config.launch)
        return check_local(config, run)


def plan_nodes(config: Config, run: Path, place: Resources, *, only_preflight: bool = False) -> LaunchPlan:
    """One agent a node. The run folder must be the same folder everywhere."""
    launch = config.launch
    options = ["--only-preflight"] if only_preflight else []
    commands = [
        Command(("bash", "-c", node_script(config, run, place, node, options)), host) for node, host in _nodes(config)
    ]
    return LaunchPlan(tuple(commands), note="" if launch.ssh or not launch.hosts else _how_to_paste(launch))


def _how_to_paste(launch: LaunchConfig) -> str:
    note = "paste each command on its host; the run folder must be the same folder on all of them"
    if not is_needed(launch):
        return note
    return (
        f"{note}\n# before that, on every host: export {VARIABLE}=... with the same value, which this makes once:\n"
        f"#     {MAKE}\n"
        f"# launch.rendezvous=static needs no secret; with it, lost nodes do not come back"
    )


def _nodes(config: Config) -> list[tuple[int, str | None]]:
    hosts: Sequence[str | None] = config.launch.hosts or (None,)
    return list(enumerate(hosts))


def node_script(config: Config, run: Path, place: Resources, node: int, options: Sequence[str] = ()) -> str:
    """What one node's shell does, on one line. Values of `launch.pass_environment` are no part of it."""
    launch = config.launch
    variables = {**place.variables, **launch.environment}
    exports = [f"export PYTHONPATH={quote(str(place.home), 'the folder of isoflop')}${{PYTHONPATH:+:$PYTHONPATH}}"]
    exports += [f"export {name}={quote(value, f'${name}')}" for name, value in variables.items()]
    words = [launch.python or place.python, "-P", "-m", "launch.agent", str(run), *options]
    if launch.hosts:
        words += ["--host", launch.hosts[0], "--port", str(launch.port), "--node", str(node)]
        words += ["--address", launch.hosts[node]]
    printable(str(run), "run.root")
    start = " ".join(quote(word, "a word of the launch") for word in words)
    setup = [printable(line, "launch.setup") for line in launch.setup]
    return " && ".join([f"cd {quote(str(place.folder), 'the working directory')}", *exports, *setup, f"exec {start}"])


def start_over_ssh(plan: LaunchPlan, launch: LaunchConfig) -> int:
    """Run every node's command on its host, with the host before each line; returns the run's exit code.

    Variables of `launch.pass_environment` and the rendezvous' secret, drawn here unless it is set, go through ssh's
    standard input: no file and no process list sees their values. A signal to this process goes to every agent, which
    lets its ranks save. A host that is silent for `launch.rendezvous_seconds` is given up. Raises UserError where a
    variable is not set here, or where ssh reaches too few hosts; then nothing goes on.
    """
    if shutil.which(SSH[0]) is None:
        raise UserError("launch.ssh: there is no ssh on the path")
    if missing := [name for name in launch.pass_environment if name not in os.environ]:
        raise UserError(f"launch.pass_environment: {' and '.join(missing)}: not set here")
    secrets = {name: os.environ[name] for name in launch.pass_environment} | {VARIABLE: launch_secret(os.environ)}
    exports = "".join(
        f"export {name}={quote_secret(value, f'launch.pass_environment: {name}')}\n" for name, value in secrets.items()
    )
    questions = math.ceil(launch.rendezvous_seconds / SILENT_SECONDS)
    ssh = (*SSH, "-o", f"ServerAliveInterval={SILENT_SECONDS}", "-o", f"ServerAliveCountMax={questions}")
    nodes: list[_Node] = []
    heard: list[signal.Signals] = []

    def forward(number: int, _: object) -> None:
        heard.append(signal.Signals(number))
        for node in nodes:
            node.send(heard[-1])

    for number in heeded():
        signal.signal(number, forward)
    for command in plan.commands:
        nodes.append(_Node(ssh, command, exports))
        if heard:  # before this one was there
            nodes[-1].send(heard[0])
    enough = launch.min_nodes or launch.nodes
    away = [node for node in nodes if not node.reached()]
    wrong = [f"launch.hosts: {node.host}: {node.why}" for node in away]
    if nodes[0] in away or len(nodes) - len(away) < enough:  # the first one is where the others meet
        forward(signal.SIGTERM, None)
        for node in nodes:
            node.wait()
        raise UserError("\n".join(wrong))
    for line in wrong:
        print(f"isoflop: {line}; the others go on (launch.min_nodes={enough})", file=sys.stderr)
    return outcome([node.wait() for node in nodes], enough)


def outcome(codes: Sequence[int], enough: int) -> int:
    """The run's exit code from those of its nodes: how it ended for `enough` of them, else the worst."""
    for code in (DONE, STOPPED, HALTED):
        if codes.count(code) >= enough:
            return code
    return max(codes, key=lambda code: (code != DONE, code == FAILED, code))


class _Node:
    """One host's agent, behind ssh."""

    def __init__(self, ssh: Sequence[str], command: Command, exports: str) -> None:
        assert command.host is not None
        self.ssh, self.host, self.pid = ssh, command.host, ""
        self.greeting: list[str] = []  # lines before the shell tells its process id: a banner, or why ssh failed
        self._waiting: signal.Signals | None = None
        self._answered = threading.Event()  # the shell did, or ssh has ended
        # The shell tells its own process id, which the agent keeps, then reads the rest of its script from ssh.
        self.process = subprocess.Popen(
            [*ssh, "--", command.host, "bash -s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # what a terminal sends is passed on to the agents, and ends no ssh
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # ssh has ended, and says why
            self.process.stdin.write(f"echo pid $$\n{exports}{command.words[-1]}\n")
            self.process.stdin.close()
        self.reader = threading.Thread(target=self._show, daemon=True)
        self.reader.start()

    def _show(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if self.pid:
                print(f"{self.host}: {line}", end="", file=sys.stdout, flush=True)
            elif re.fullmatch(r"pid \d+\s*", line):  # nothing else becomes a word of `kill`
                self.pid = line.split()[1]
                self._answered.set()
                if self._waiting is not None:
                    self.send(self._waiting)
            else:
                self.greeting.append(line.strip())
        self._answered.set()

    def reached(self) -> bool:
        """Whether there is a shell on that host; waits until that is known."""
        self._answered.wait()
        return bool(self.pid)

    @property
    def why(self) -> str:
        """Why it was not reached, in ssh's own words."""
        return self.greeting[-1] if self.greeting else f"ssh ended with exit code {self.process.wait()}"

    def send(self, number: signal.Signals) -> None:
        """Send the agent a signal, or keep it until the agent's process is known."""
        if not self.pid:
            self._waiting = number
        if self.pid and self.process.poll() is None:  # asked again: it may have become known meanwhile
            kill = f"kill -{number.name.removeprefix('SIG')} {self.pid}"
            subprocess.Popen([*self.ssh, "--", self.host, kill], start_new_session=True)

    def wait(self) -> int:
        code = self.process.wait()
        self.reader.join()
        return FAILED if code == 255 or code < 0 else code  # 255: ssh itself failed, in its own words
