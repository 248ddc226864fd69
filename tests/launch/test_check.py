"""Preflight alone, on every node of a launch. On a real SLURM: test_slurm.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from launch.plan import Resources
from launch.slurm import plan_job
from tests.ports import free_port
from trainer.books.cost_records import cost_records
from trainer.cli.main import main
from trainer.compose import compose

# Stands in for ssh: every host is this one.
SSH = """#!/bin/bash
while [ "$1" = -o ]; do shift 2; done
[ "$1" = -- ] && shift
bash -c "${*:2}"
"""
ODD = """
import os
if os.environ.get("GROUP_RANK") == os.environ["ODD_NODE"]:
    import trainer.utils.files
    trainer.utils.files.sha256 = lambda path: "beefbeefbeef"
"""


@pytest.fixture
def over_ssh(isoflop: Any) -> Any:
    """`isoflop preflight` of two hosts, of which `odd` differs."""
    (isoflop.folder / "ssh").write_text(SSH)
    (isoflop.folder / "ssh").chmod(0o755)
    (isoflop.folder / "sitecustomize.py").write_text(ODD)
    path = {"PATH": f"{isoflop.folder}:{os.environ['PATH']}", "PYTHONPATH": str(isoflop.folder)}
    words = ["launch=torchrun", "launch.nodes=2", "launch.hosts=[127.0.0.2,127.0.0.3]", "launch.ssh=true"]
    words += [f"launch.port={free_port()}", "engine.threads=1"]
    return lambda odd: isoflop("preflight", *words, "--json", **path, ODD_NODE=odd)


def test_every_host_is_checked_over_ssh_and_the_odd_one_is_named(over_ssh: Any, isoflop: Any) -> None:
    done = over_ssh("1")
    assert done.returncode == 2
    told = [line for line in (done.stdout + done.stderr).splitlines() if "isoflop: " in line]
    assert len(told) == 1, told
    assert "isoflop: preflight: 127.0.0.3: config.yaml: beefbeefbeef, other nodes have" in told[0]
    assert [one.name for one in (isoflop.folder / "runs").iterdir()] == ["costs"]
    booked = sorted(one.verb for one in cost_records(isoflop.folder / "runs"))
    assert booked == ["launch", "launch", "preflight", "preflight", "preflight"]  # agents; the command and ranks


def test_a_batch_script_that_trains_nothing() -> None:
    for starter in ("srun", "torchrun"):
        config = compose(["launch=slurm", "launch.nodes=2", f"launch.starter={starter}", "launch.restarts=3"])
        run = Path("/data/r1")
        (text,) = plan_job(config, run, Resources(), run / "job.sh", only_preflight=True).files.values()
        assert "launch.rank" not in text
        assert ("launch.preflight" if starter == "srun" else "--only-preflight") in text


def test_hosts_that_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["preflight", "launch=torchrun", "launch.nodes=2", "launch.hosts=[a,b]"]) == 2
    assert "preflight reaches other hosts over ssh: add launch.ssh=true" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["preflight", "launch=slurm", "launch.nodes=2"]) == 2
    assert "there is no sbatch on the path" in capsys.readouterr().err


def test_what_a_job_of_slurm_said(isoflop: Any) -> None:
    """Stand-ins for sbatch and squeue: the job has ended when it is looked at."""
    (isoflop.folder / "squeue").write_text("#!/bin/bash\necho '7 FAILED NonZeroExitCode'\n")
    (isoflop.folder / "sbatch").write_text(
        '#!/bin/bash\nrun=$(dirname "$2")\ncase $SAYS in\n'
        'fit) echo \'{"ranks": [], "all_reduce_bytes_per_second": null, "complaints": []}\' >"$run/preflight.json" ;;\n'
        '*) echo "$SAYS" >"$run/logs/slurm-7.out" ;;\nesac\necho 7\n'
    )
    for name in ("squeue", "sbatch"):
        (isoflop.folder / name).chmod(0o755)

    def check(says: str) -> tuple[int, str, str]:
        path = f"{isoflop.folder}:{os.environ['PATH']}"
        done = isoflop("preflight", "launch=slurm", "launch.nodes=2", "--json", PATH=path, SAYS=says)
        return done.returncode, done.stdout, done.stderr

    code, out, err = check("fit")
    assert (code, json.loads(out)["complaints"]) == (0, []), err
    assert "job 7 checks 2 nodes" in err
    code, _, err = check("isoflop: preflight: n2: cannot write to the run folder (Read-only file system)")
    assert (code, err.splitlines()[1:]) == (
        2,
        ["isoflop: preflight: n2: cannot write to the run folder (Read-only file system)"],
    )
    code, _, err = check("module: command not found")
    assert code == 2
    assert err.splitlines()[1:] == [
        "isoflop: job 7 ended before it had checked its nodes",
        "module: command not found",
    ]
