"""What a launch would write and run, without running it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import LaunchPlan, Resources, plan_array, plan_launch
from launch.rank import scattered
from trainer.compose import compose
from trainer.config import Config
from trainer.config.validate import validate
from trainer.utils.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
PLACE = Resources(
    python="/opt/isoflop/bin/python",
    home=Path("/opt/isoflop"),
    folder=Path("/home/ada"),
    cache=None,
    command="isoflop",
    asks=False,
)
NASTY = Path("/data/a b/it's 100% $(touch boom)")

# name -> overrides of launch=slurm; the first ones are what people ask clusters for
JOBS: dict[str, list[str]] = {
    "one-node": ["launch.processes=2", "launch.preflight=false", "launch.restarts=0"],
    "four-nodes": ["launch.nodes=4", "launch.gpus_per_node=8", "launch.time=1-12:00:00", "launch.memory=0"],
    "cluster-words": [
        "launch.nodes=2",
        "launch.gpus_per_node=4",
        "launch.partition=gpu",
        "launch.account=proj-17",
        "launch.qos=long",
        "launch.constraint='a100&nvlink'",
        "launch.exclude=[n3,n7]",
        "launch.cpus_per_rank=12",
        "launch.gres='gpu:a100:4'",
    ],
    "torchrun-per-node": [
        "launch.nodes=2",
        "launch.gpus_per_node=8",
        "launch.starter=torchrun",
        "launch.cpus_per_rank=4",
    ],
    "chain": ["launch.nodes=2", "launch.chain=3"],
    "no-requeues": ["launch.requeues=0", "launch.save_seconds=300"],
    "pyxis": [
        "launch.nodes=2",
        "launch.gpus_per_node=8",
        "launch.container=pyxis",
        "launch.image=registry.example/isoflop:1",
        "launch.mounts=['/data:/data','/home/ada:/home/ada:ro']",
        "launch.python=python3",
    ],
    "apptainer": [
        "launch.gpus_per_node=8",
        "launch.container=apptainer",
        "launch.image=/images/isoflop 1.sif",
        "launch.mounts=['/data:/data']",
        "launch.python=python3",
    ],
    "network": [
        "launch.nodes=2",
        "launch.environment.NCCL_SOCKET_IFNAME=ib0",
        "launch.environment.GLOO_SOCKET_IFNAME=ib0",
        "launch.environment.NCCL_IB_HCA=mlx5",
        "launch.setup=['module load cuda/12.8','ulimit -l unlimited']",
        "launch.srun=['--cpu-bind=cores']",
    ],
    "quoting": [
        r"""launch.environment.GREETING='it\'s $(touch boom) "quoted" `touch boom`'""",
        r"""launch.sbatch=['--comment=a "b" $(touch boom) it\'s']""",
        "launch.srun=['--comment=$(touch boom) `touch boom`']",
        "launch.python='/opt/my python/bin/python'",
    ],
}


def job(name: str) -> LaunchPlan:
    run = NASTY / "llama" / "r1" if name == "quoting" else Path("/data/runs/llama/r1")
    return plan_launch(compose(["optim.batch_size=64", "launch=slurm", *JOBS[name]]), run, PLACE)


def script(plan: LaunchPlan) -> str:
    (text,) = plan.files.values()
    return text


def golden(name: str, text: str) -> None:
    """Compare with the kept script; ISOFLOP_GOLDEN=write writes it anew, to be read in the diff."""
    file = GOLDEN / f"{name}.sh"
    if os.environ.get("ISOFLOP_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text(), f"{file}: read the difference; ISOFLOP_GOLDEN=write accepts it"


@pytest.mark.parametrize("name", JOBS)
def test_batch_scripts_are_as_they_were_read(name: str) -> None:
    golden(name, script(job(name)))


def sweep_configs() -> tuple[list[Config], list[Path]]:
    words = ["launch=slurm", "launch.array_limit=2", "launch.gpus_per_node=1"]
    configs = [compose([*words, f"seed={seed}"]) for seed in range(3)]
    return configs, [Path(f"/data/my runs/llama/s{seed}") for seed in range(3)]


def test_a_sweep_is_one_array() -> None:
    configs, runs = sweep_configs()
    plan = plan_array(configs, runs, Path("/data/my runs/sweeps/s"), PLACE)
    assert "#SBATCH --array=0-2%2" in script(plan)
    assert [command.words[0] for command in plan.commands] == ["sbatch"]
    golden("array", script(plan))


def test_an_array_shares_its_resources() -> None:
    configs, runs = sweep_configs()
    configs[1] = compose(["launch=slurm", "launch.nodes=2", "seed=1"])
    with pytest.raises(UserError, match=r"share their resources.*s1 asks for others"):
        plan_array(configs, runs, Path("/data/sweep"), PLACE)


def test_a_chain_is_submitted_as_often_as_it_is_long() -> None:
    plan = job("chain")
    assert len(plan.commands) == 3
    assert "#SBATCH --dependency=singleton" in script(plan)
    assert "scontrol requeue" not in script(plan)


def test_scripts_are_shellcheck_clean(tmp_path: Path) -> None:
    checker = shutil.which("shellcheck") or str(Path(sys.executable).parent / "shellcheck")
    if not Path(checker).exists():
        pytest.skip("shellcheck is not installed (it is in the extra `test`)")
    for file in [*GOLDEN.glob("*.sh"), *(Path(__file__).parents[2] / "scripts").glob("setup*")]:
        done = subprocess.run([checker, str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_a_shell_reads_every_value_as_it_was_given(tmp_path: Path) -> None:
    """The script with the nasty values, run by bash with stand-ins for SLURM's programs that show their words."""
    boom = tmp_path / "boom"
    text = script(job("quoting")).replace("cd /home/ada", f"cd {tmp_path}").replace("touch boom", f"touch {boom}")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@" "GREETING=$GREETING"\n')
    (bin_ / "scontrol").write_text(
        '#!/bin/bash\n[ "$2" = hostnames ] && echo n1 || echo "NodeName=n1 NodeAddr=10.0.0.1"\n'
    )
    for file in bin_.iterdir():
        file.chmod(0o755)
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    run = str(NASTY / "llama" / "r1").replace("touch boom", f"touch {boom}")
    assert run in lines
    assert f"--output={run.replace('%', '%%')}/logs/%j-%t.out" in lines
    assert f"--comment=$(touch {boom}) `touch {boom}`" in lines
    assert "/opt/my python/bin/python" in lines
    assert f'GREETING=it\'s $(touch {boom}) "quoted" `touch {boom}`' in lines
    assert not boom.exists()


def test_one_command_a_node() -> None:
    words = ["launch=torchrun", "launch.nodes=2", "launch.gpus_per_node=4", "launch.hosts=[alpha,beta]"]
    plan = plan_launch(compose([*words, "launch.environment.X='a b'"]), Path("/data/my runs/r1"), PLACE)
    assert [command.host for command in plan.commands] == ["alpha", "beta"]
    for node, command in enumerate(plan.commands):
        shell, flag, text = shlex.split(command.text)  # what a person pastes is read back as it was meant
        assert (shell, flag) == ("bash", "-c")
        assert "export X='a b'" in text
        words = shlex.split(text.rpartition("exec ")[2])
        assert words[:5] == ["/opt/isoflop/bin/python", "-P", "-m", "launch.agent", "/data/my runs/r1"]
        assert words[5:] == [
            "--host",
            "alpha",
            "--port",
            "29500",
            "--node",
            str(node),
            "--address",
            ["alpha", "beta"][node],
        ]
    assert "paste each command on its host" in plan.text


def test_a_line_break_never_reaches_a_script() -> None:
    with pytest.raises(UserError, match="holds a line break") as error:
        validate({"launch": {"name": "slurm", "partition": "gpu\n#SBATCH --uid=0", "setup": ["a\rb"]}})
    assert {line.split(":")[0] for line in str(error.value).splitlines()} == {"launch.partition", "launch.setup"}


def test_ranks_of_groups_are_numbered_node_by_node() -> None:
    """srun is told so only where something relies on it, and what is given for other tasks stays."""
    words = ["launch=slurm", "launch.nodes=2", "launch.processes=2", "launch.srun=['--cpu-bind=cores']"]
    plain, grouped = (compose([*words, *more]) for more in ([], ["engine.sequence_parallel=2"]))
    texts = [next(iter(plan_launch(one, Path("/runs/a/b"), PLACE).files.values())) for one in (plain, grouped)]
    assert "--distribution" not in texts[0]
    starts = [line for line in texts[1].splitlines() if "launch.rank" in line or "launch.preflight" in line]
    assert starts
    assert all("--distribution=block --cpu-bind=cores" in line for line in starts)


@pytest.mark.parametrize(("rank", "node", "local", "right"), [(5, 2, 1, True), (2, 1, 0, True), (1, 1, 0, False)])
def test_a_rank_that_is_not_where_its_group_is(rank: int, node: int, local: int, right: bool) -> None:
    place = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(local), "SLURM_NODEID": str(node)}
    said = scattered(place, 2)
    assert (said is None) == right
    assert right or "--distribution" in str(said)
