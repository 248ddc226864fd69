"""No value becomes a command: what cannot be carried is refused, everything else arrives exactly."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from launch import LaunchPlan, Resources, plan_launch
from launch.quoting import quote
from launch.records import new_launch, read_launch, write_launch
from launch.status import cancel
from trainer.cli.main import main
from trainer.compose import compose
from trainer.config import CONTROL, Config, LaunchConfig
from trainer.config.validate import validate
from trainer.utils.errors import UserError

PLACE = Resources(
    python="/opt/python", home=Path("/opt/isoflop"), folder=Path("/"), cache=None, command="isoflop", asks=False
)
PLACES = ("root", "home", "python", "cache", "environment", "srun", "sbatch", "image", "mounts", "partition")
LETTERS = st.one_of(st.sampled_from("'\"\\$`%;&|<>()#!*~ -=\n\r\x00\x1b\x7f\x85\u2028é"), st.characters(codec="utf-8"))
VALUES = st.text(LETTERS, min_size=1, max_size=12)
NASTY = ["'; touch pwned; '", "$(touch pwned)", "`touch pwned`", '"; touch pwned #', "\\'; touch pwned #", "-n a %j%%"]
BREAKS = ["\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\udce9"]

# Stands in for srun: the words and the environment, one a line, then the end of the job.
STANDS_IN = """
srun() {
    case "$*" in *all_nodes*) return 0 ;; esac
    printf 'word %s\\n' "$@"
    printf 'cache %s\\n' "${ISOFLOP_CACHE:-}" "${GIVEN:-}" "${PYTHONPATH:-}"
}
scontrol() { [ "$2" = hostnames ] && echo n1 || echo 'NodeName=n1 NodeAddr=10.0.0.1'; }
"""


@pytest.fixture(scope="module")
def base() -> dict[str, Config]:
    words = {"slurm": ["launch=slurm"], "torchrun": ["launch=torchrun", "launch.nodes=2", "launch.hosts=[a,b]"]}
    return {name: compose(given) for name, given in words.items()}


def planned(config: Config, where: str, value: str) -> LaunchPlan:
    """The plan with the value in that place."""
    launch: dict[str, Any] = config.launch.model_dump()
    place, run = PLACE, Path("/data/llama/r1")
    if where == "root":
        run = Path(f"/data/{value}/llama/r1")
    elif where in ("home", "python", "cache"):
        place = replace(PLACE, **{where: Path(f"/{value}") if where == "home" else value})
    elif where == "environment":
        launch["environment"] = {"GIVEN": value}
    elif where in ("srun", "sbatch"):
        launch[where] = (f"--comment={value}",)
    elif where == "partition":
        launch[where] = value
    else:
        launch |= {
            "container": "apptainer",
            "image": "x",
            "mounts": (),
            where: (value,) if where == "mounts" else value,
        }
    launch["environment"] = {"LAST": "x", **launch["environment"]}
    return plan_launch(config.model_copy(update={"launch": LaunchConfig.model_validate(launch)}), run, place)


def ran(script: str, folder: Path) -> str:
    """What a shell does with it."""
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}
    for options in (["-n"], []):
        done = subprocess.run(
            ["bash", *options, "-c", STANDS_IN + script], env=environment, cwd=folder, capture_output=True
        )
        assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(PLACES), value=st.one_of(VALUES, st.sampled_from(NASTY)))
@example(where="root", value="x\ntouch pwned #")
@example(where="root", value="a\\b")
@example(where="sbatch", value="x\ntouch pwned #")
@example(where="environment", value="'\n'touch pwned\n")
def test_a_batch_script_carries_values_and_runs_none(
    where: str, value: str, base: dict[str, Config], tmp_path: Path
) -> None:
    wrong = CONTROL.search(value) or (where == "root" and "\\" in value)
    try:
        plan = planned(base["slurm"], where, value)
    except (UserError, ValueError):
        assert wrong
        return
    assert not wrong
    (script,) = plan.files.values()
    assert not CONTROL.search(script.replace("\n", ""))
    said = ran(script.replace("cd / ", f"cd {shlex.quote(str(tmp_path))} "), tmp_path)
    assert not (tmp_path / "pwned").exists()
    options = [
        shlex.split(line.removeprefix("#SBATCH "), comments=True)
        for line in script.splitlines()
        if line.startswith("#SBATCH")
    ]
    assert all(len(words) == 1 for words in options)
    if where == "root":
        run = str(Path(f"/data/{value}/llama/r1"))
        assert f"word {run}\n" in said
        assert f"word --output={run.replace('%', '%%')}/logs/%j-%t.out\n" in said
        assert [f"--output={run.replace('%', '%%')}/logs/slurm-%j.out"] in options
    elif where in ("sbatch", "partition"):
        assert [f"--comment={value}" if where == "sbatch" else f"--partition={value}"] in options
    elif where == "home":
        assert f"cache {Path(f'/{value}')}\n" in said
    else:
        assert {"srun": f"word --comment={value}\n", "cache": f"cache {value}\n"}.get(where, f" {value}\n") in said


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.sampled_from(["root", "home", "python", "cache", "environment"]), value=st.sampled_from([*NASTY, *BREAKS])
)
def test_what_ssh_sends_and_a_person_pastes_carries_values(
    where: str, value: str, base: dict[str, Config], tmp_path: Path
) -> None:
    try:
        command = planned(base["torchrun"], where, value).commands[1]
    except (UserError, ValueError):
        assert CONTROL.search(value)
        return
    assert not CONTROL.search(value)
    sent = command.words[-1]
    assert shlex.split(command.text) == ["bash", "-c", sent]
    # In place of the agent, a program that shows its words and its environment.
    shown = 'printf \'word %s\\n\' "${ISOFLOP_CACHE:-}" "${GIVEN:-}" "$PYTHONPATH" '
    done = subprocess.run(
        ["bash", "-c", sent.replace("exec ", shown)],
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    expected = {"root": str(Path(f"/data/{value}/llama/r1")), "home": str(Path(f"/{value}"))}.get(where, value)
    assert f"word {expected}\n" in done.stdout, done.stderr
    assert not (tmp_path / "pwned").exists()
    assert not Path("/pwned").exists()


@pytest.mark.parametrize("letter", BREAKS, ids=ascii)
def test_a_control_character_is_refused_where_it_is_given(letter: str) -> None:
    for group, key, value in (
        ("run", "root", f"/tmp/x{letter}touch pwned #"),
        ("run", "cache", f"x{letter}"),
        ("launch", "partition", f"x{letter}"),
        ("launch", "environment", {"GIVEN": f"x{letter}"}),
    ):
        reader = {"name": "slurm"} if key == "partition" else {}
        with pytest.raises(UserError, match=f"^{group}.{key}: .*control character"):
            validate({group: {key: value, **reader}})
    with pytest.raises(UserError, match=r"^the working directory: .*control character"):
        plan_launch(compose(["launch=slurm"]), Path("/r/e/i"), replace(PLACE, folder=Path(f"/x{letter}")))
    with pytest.raises(UserError, match=r"^a word: .*control character"):
        quote(f"x{letter}", "a word")


def test_a_root_with_a_line_break_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--dry-run", "launch=slurm", "run.root='/tmp/x\ntouch pwned #'"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("isoflop: run.root: ")] == err.splitlines()


@pytest.mark.parametrize(
    "tampered",
    [
        {"jobs": ["--user=root"]},
        {"jobs": ["12 13"]},
        {"jobs": ["12\n"]},
        {"jobs": [12]},
        {"process": -1},
        {"process": 0},
        {"process": True},
        {"process": "1"},
    ],
    ids=str,
)
def test_a_tampered_record_ends_nothing(
    tampered: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -1 and scancel --user would end everything of this person."""
    monkeypatch.setattr("os.kill", lambda *words: pytest.fail(f"kill {words}"))
    monkeypatch.setattr("subprocess.run", lambda words, **_: pytest.fail(" ".join(words)))
    folder = new_launch(tmp_path)
    write_launch(folder, "slurm", jobs=("12",))
    assert read_launch(tmp_path) is not None
    record = json.loads((folder / "launch.json").read_text())
    (folder / "launch.json").write_text(json.dumps({**record, "jobs": [], **tampered}))
    assert read_launch(tmp_path) is None
    with pytest.raises(UserError, match="nothing holds it"):
        cancel(tmp_path)
