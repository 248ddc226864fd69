"""`isoflop` in processes of its own: one at a time, or many that share one start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.golden.product import COMMAND, MAIN, ROOT

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "WANDB_MODE": "offline",
    "PYTHONPATH": str(ROOT),
    "PYTHONHASHSEED": "0",
    "COLUMNS": "120",
}


def environment() -> dict[str, str]:
    """This process's variables, without those that would change what a golden run does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISOFLOP_")}
    return {**kept, **ENVIRONMENT}


def isoflop(*words: str, folder: Path = ROOT) -> str:
    """Run one command in a fresh process; returns its standard output. Raises RuntimeError where it fails."""
    done = subprocess.run(
        [sys.executable, *COMMAND, *words], cwd=folder, env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"isoflop {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


# Reads a JSON line [folder, words, out, err] a command; answers with its exit code. The libraries that take seconds to
# import, and matplotlib's fonts, are there before a command is forked off; nothing of the product is.
SERVER = f"""
import json, os, sys
import deepspeed, hydra, numpy, sentencepiece, torch
import torch._dynamo, torch._inductor.compile_fx
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.title("fonts").figure.savefig(os.devnull, format="svg")
plt.close("all")
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    folder, words, *files = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(folder)
            for number, file in enumerate(files, 1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            {MAIN}
            code = main(words)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)
os._exit(0)
"""


class Commands:
    """Many commands that pay for the imports of torch, DeepSpeed and matplotlib once: each is a fork of one server."""

    def __enter__(self) -> Commands:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._output = tempfile.TemporaryDirectory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        self._output.cleanup()

    def __call__(self, folder: Path, *words: str) -> Done:
        """`isoflop <words>` in this working folder."""
        assert self._server.stdin is not None and self._server.stdout is not None
        files = [Path(self._output.name) / name for name in ("out", "err")]
        print(json.dumps([str(folder), list(words), *map(str, files)]), file=self._server.stdin, flush=True)
        while not (answer := self._server.stdout.readline()).strip().lstrip("-").isdigit():
            if not answer:
                raise RuntimeError(f"the server of commands is gone; it was given: isoflop {' '.join(words)}")
        out, err = (file.read_text(errors="replace") for file in files)
        return Done(int(answer), out, err)

    def succeed(self, folder: Path, *words: str) -> str:
        """The same for a command that has to end well; returns its standard output."""
        done = self(folder, *words)
        assert done.code == 0, f"isoflop {' '.join(words)}: exit code {done.code}\n{done.out}\n{done.err}"
        return done.out
