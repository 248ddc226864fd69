"""What a batch script says of its price, of mail and comment, and the CPUs that it asks for by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launch import Resources, plan_array, plan_launch
from launch.slurm_header import Node, least_node, with_cpus
from trainer.books import plan
from trainer.cli.main import main
from trainer.compose import compose
from trainer.config import LaunchConfig

RUN = Path("/data/runs/llama/r1")
WORDS = ["optim.batch_size=64", "launch=slurm", "launch.gpus_per_node=4"]
PRICED = [
    "machine=h100-sxm",
    "site.pue=1.2",
    "site.price_per_device_hour=2",
    "site.currency=EUR",
    "site.price_date=2026-01",
]


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of this name on the path; the file that it prints, and beside it the words that it was given."""
    said = tmp_path / "said"
    program = tmp_path / "sinfo"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat {said}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return said


def script(*words: str, place: Resources | None = None) -> str:
    (text,) = plan_launch(compose([*WORDS, *words]), RUN, place or Resources(folder=Path("/home/ada"))).files.values()
    return text


def test_a_rank_gets_its_share_of_the_node(sinfo: Path) -> None:
    sinfo.write_text("cpu|64|(null)\ngpu*|128+|gpu:a100:8(S:0-1)\ngpu*|96|gpu:a100:8\n")
    text = script()
    assert "#SBATCH --cpus-per-task=12\n" in text  # 4 of 8 GPUs, so 48 of 96 CPUs, over 4 ranks
    assert text.count("--cpus-per-task=12") == 3  # srun does not take it over: preflight and training say it too
    assert "# CPUs of a rank: 12, of a node's 96 by 4 of 8 GPUs (sinfo)" in text
    assert "#SBATCH --cpus-per-task=48\n" in script("launch.starter=torchrun")
    assert "#SBATCH --cpus-per-task=3\n" in script("launch.cpus_per_rank=3")
    script("launch.partition=cpu")
    assert "--partition=cpu" in (sinfo.parent / "words").read_text()


def test_what_slurm_does_not_say_stays_its_own(sinfo: Path) -> None:
    for answer in ("", "nonsense\n", "gpu*|?|gpu:8\n"):
        sinfo.write_text(answer)
        assert least_node(None) is None
        text = script()
        assert "cpus-per-task" not in text and "SLURM's default" in text
    sinfo.write_text("gpu*|32|(null)\n")
    assert least_node(None) == Node(32, None)
    assert with_cpus(compose(["launch=slurm", "launch.processes=4"]).launch)[0].cpus_per_rank is None  # no GPUs
    assert "#SBATCH --cpus-per-task=8\n" in script()


def test_the_price_is_the_plans_and_what_is_unknown_is_not_stated() -> None:
    (line,) = [line for line in script(*PRICED).splitlines() if line.startswith("# planned")]
    rows = {row.key: row.planned for row in plan(compose([*WORDS, *PRICED])).rows}
    assert "on h100-sxm" in line and "EUR" in line and "CO2e not stated" in line
    hours = rows["machine.device_hours"]
    assert hours is not None and hours.value is not None and f"{hours.value:.3g} h" in line
    assert "money not stated" in script("machine=h100-sxm")
    unknown = script()
    assert "# planned: time, energy, CO2e and money not stated; machine=<name>" in unknown
    config = compose([*WORDS, "machine=h100-sxm"])
    array = plan_array([config] * 2, [RUN, RUN.parent / "r2"], Path("/data/runs/x"), Resources(folder=Path("/home")))
    assert "# planned, each run on h100-sxm" in "".join(array.files.values())


def test_a_script_that_asks_nobody_is_the_same_everywhere(sinfo: Path) -> None:
    sinfo.write_text("gpu*|96|gpu:8\n")
    text = script(*PRICED, place=replace(Resources(folder=Path("/home/ada")), asks=False))
    assert "planned" not in text and "cpus-per-task" not in text


def test_mail_and_comment_are_options_of_sbatch() -> None:
    text = script("launch.mail=ada@example.org", r"launch.comment='proj 7: it\'s $(here)'")
    assert "#SBATCH --mail-user=ada@example.org\n#SBATCH --mail-type=END,FAIL,REQUEUE\n" in text
    assert """#SBATCH "--comment=proj 7: it's $(here)"\n""" in text
    assert LaunchConfig().introduced() | {"mail": None, "comment": None} == LaunchConfig().introduced()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch.mail='a b'"], "launch.mail: 'a b' given; one address"),
        (["launch.mail='x@y,z@w'"], "launch.mail: 'x@y,z@w' given"),
        (["launch.mail=ada", "launch.sbatch=['--mail-type=ALL']"], "--mail-type=ALL: launch.mail=ada sets it"),
        (["launch.comment=x", "launch.sbatch=['--comment=y']"], "--comment=y: launch.comment=x sets it"),
        (['launch.comment="a\\nb"'], "launch.comment"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "\\n" in words[0]:
        words = ["launch.comment='a\nb'"]
    assert main(["launch", *WORDS, *words, "--dry-run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_another_launcher_refuses_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "launch=local", "launch.mail=ada@example.org", "--dry-run"]) == 2
    assert "launch.mail" in capsys.readouterr().err
