"""What a person, a cluster or a network gets wrong about a launch: one line each, and nothing started."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path
from secrets import token_hex

import pytest

from launch.agent import Rendezvous, run_agent
from launch.agent import main as agent
from launch.nodes import plan_nodes, start_over_ssh
from launch.plan import Command, LaunchPlan, Resources
from launch.records import keep_state
from launch.secret import CHARACTERS, VARIABLE
from tests.ports import free_port
from trainer.cli.main import main
from trainer.compose import change, compose
from trainer.training.faults.signals import STOP_SIGNALS
from trainer.utils.errors import UserError
from trainer.utils.secrets import is_secret_name, secrets, spellings, without_secrets
from trainer.utils.slurm_options import gpus_of, minutes

TWO = "launch=torchrun launch.nodes=2 launch.hosts=[a,b]"
WRONG: list[tuple[str, str]] = [
    (
        "launch=slurm launch.nodes=3 launch.gpus_per_node=4",
        "optim.batch_size: 3 nodes x 4 = 12 ranks do not divide 16; 12 or 24 would do, or launch.uneven=true",
    ),
    ("launch=slurm launch.nodes=9 launch.gpus_per_node=8", "9 nodes x 8 = 72 ranks cannot share optim.batch_size 16"),
    ("launch=slrum", "launch=slrum: no such option (did you mean 'slurm'?)"),
    ("launch.partitoin=gpu", "launch.partitoin: no such key (did you mean 'launch.partition'?)"),
    ("launch.nodes=2", "launch.nodes: 2 given, and launch=local is this host; add launch=torchrun or launch=slurm"),
    ("launch=torchrun launch.nodes=2", "launch.hosts: name them, e.g. launch.hosts=[node1,node2]"),
    ("launch=torchrun launch.nodes=2 launch.hosts=[a]", "launch.hosts: 1 named, launch.nodes is 2"),
    ("launch=torchrun launch.nodes=2 launch.hosts=[a,a]", "launch.hosts: a host is named twice"),
    (f"{TWO} launch.min_nodes=3", "launch.min_nodes: 3 is more than launch.nodes 2"),
    (f"{TWO} launch.min_nodes=1 launch.rendezvous=static", "launch.min_nodes: a static rendezvous waits for all nodes"),
    (f"{TWO} launch.port=70000", "launch.port: 70000 given, less than or equal to 65534"),
    ("launch=slurm launch.time=soon", "launch.time: 'soon' given; minutes, hours:minutes:seconds"),
    ("launch=slurm launch.container=pyxis", "launch.image: launch.container=pyxis needs one"),
    ("launch=slurm launch.image=x.sif", "launch.image: say how to enter it"),
    ("launch=slurm launch.environment.HF_TOKEN=abc", "HF_TOKEN looks like a secret, and this is written down"),
    ("launch.environment.A-B=abc", "'A-B' is no name of a variable"),
    ("launch.pass_environment=['WANDB_API_KEY=abc']", "names of variables wanted, without values"),
    (
        "launch=torchrun launch.hosts=['-oProxyCommand=x']",
        "'-oProxyCommand=x' is no host: a dash would begin an option",
    ),
    ("launch.processes=2 launch.gpus_per_node=2", "launch.processes: launch.gpus_per_node sets it"),
    ("launch=torchrun launch.hosts=a,b", "launch.hosts=a,b: a list is written in brackets: launch.hosts=[a,b]"),
    ("launch=torchrun launch.ssh=true", "launch.ssh: name the hosts, e.g. launch.hosts=[node1,node2]"),
    ("launch=slurm launch.hosts=[a]", "launch.hosts: launch=slurm does not read it; torchrun does"),
    ("launch=slurm launch.sbatch=[exclusive]", "launch.sbatch: 'exclusive' is no option; they begin with dashes"),
    ("launch=slurm launch.srun=[exact]", "launch.srun: 'exact' is no option; they begin with dashes"),
    ("launch=slurm launch.sbatch=['--signal=B:USR1@90']", "launch.save_seconds sets it: without this signal nothing"),
    ("launch=slurm launch.sbatch=['--sig=USR1@90']", "launch.save_seconds sets it"),
    ("launch=slurm launch.sbatch=['-N4']", "launch.sbatch: -N4: launch.nodes and launch.processes set it"),
    ("launch=slurm launch.sbatch=['--ntasks=4']", "launch.nodes and launch.processes set it"),
    ("launch=slurm launch.sbatch=['-t=5']", "launch.time sets it, which is held against launch.save_seconds"),
    ("launch=slurm launch.sbatch=['--export=NONE']", "ranks would lack the job's variables; write --export=ALL,..."),
    ("launch=slurm launch.sbatch=['--no-requeue']", "launch.requeues=0 says it"),
    ("launch=slurm launch.sbatch=['--partition=b'] launch.partition=a", "launch.partition=a sets it; give one of the"),
    ("launch=slurm launch.sbatch=['-dafterok:3'] launch.chain=2", "a chain has a dependency of its own, singleton"),
    ("launch=slurm launch.srun=['-n3']", "launch.srun: -n3: launch.nodes and launch.processes set it"),
    ("launch=slurm launch.gres=gpu:a100:4 launch.processes=8", "asks for 4 GPUs, fewer than launch.processes=8 ranks"),
    ("launch=slurm launch.gres=gpu:4 launch.gpus_per_node=8", "asks for 4 GPUs, launch.gpus_per_node is 8"),
    ("launch=slurm launch.time=2", "launch.time: 2 is over before launch.save_seconds=120 have begun"),
    ("launch=slurm launch.time=1:30", "launch.time: 1:30 is over before launch.save_seconds=120 have begun"),
    ("launch=slurm launch.environment={V:3.10}", "3.1 was read as a number, text wanted: put it in quotes"),
    ("launch=slurm launch.nodes=two", "launch.nodes: 'two' given, a valid integer [nodes] wanted"),
    ("launch=slurm launch.nodes=0", "launch.nodes: 0 given, greater than or equal to 1 [nodes] wanted"),
    ("launch=slurm launch.environment=abc", "launch.environment: 'abc' given, {name: value} wanted"),
    ("launch=slurm launch.container=docker launch.image=x", "launch.container: 'docker' given, 'pyxis' or 'apptainer'"),
    ("launch=slurm launch.memory=$(rm)", "launch.memory: '$(rm)' given; a whole number with K, M, G or T wanted"),
    ("launch=slurm launch.memory=2.5G", "launch.memory: '2.5G' given; a whole number with K, M, G or T wanted"),
    ("launch=slurm launch.nodes=$(rm)", "launch.nodes=$(rm): not an override in Hydra's grammar"),
    ("launch=slurm launch.chain=2 launch.array_limit=2", "launch.array_limit: a chain is one run; a sweep is an array"),
    ("launch=slurm seed=0,1", "seed=0,1: several values need -m (one run each)"),
    ("launch=slurm run.id=../x", "run.id: '../x' is not a plain folder name"),
    ("launch=slurm partition=gpu", "partition: no such key (did you mean 'launch.partition'?)"),
    ("launch=slurm --partition=gpu", "--partition=gpu: overrides are written without dashes"),
    ("resume=nowhere launch=slurm", "nowhere: no run folder of that name, nor under runs"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("isoflop: ")]
    assert 1 <= len(lines) <= 3, err
    assert "Traceback" not in err
    return "\n".join(lines)


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[words for words, _ in WRONG])
def test_one_wrong_word(words: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in answer(capsys, "launch", "--dry-run", *words.split())
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "launch=slurm"], "launch=slurm: isoflop launch starts it; isoflop train runs on this host"),
        (["status"], "no runs under runs"),
        (["status", "a", "b"], "name one root of runs"),
        (["cancel"], "name one run or more"),
        (["cancel", "nowhere"], "nowhere: no run folder"),
        (["launch", "--dry-rnu"], "--dry-rnu: no such option (did you mean '--dry-run'?)"),
    ],
)
def test_wrong_verbs(words: list[str], expected: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in answer(capsys, *words)


@pytest.mark.parametrize(
    ("word", "accepted"),
    [
        ("launch.setup=['export WANDB_API_KEY=0123456789']", False),
        ("launch.sbatch=['--export=ALL,HF_TOKEN=\"0123456789\"']", False),
        ("launch.setup=['export HF_TOKEN=$(cat token)','export TOKENIZERS_PARALLELISM=false']", True),
        ("launch.sbatch=['--export=ALL']", True),
    ],
)
def test_no_secret_is_typed_into_a_script(word: str, accepted: bool, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["launch", "--dry-run", "launch=slurm", word])
    out, err = capsys.readouterr()
    assert (code == 0) == accepted, err
    if not accepted:
        assert "looks like a secret, and this is written down" in err
        assert "0123456789" not in out + err


def test_a_dry_run_shows_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    assert main(["launch", "--dry-run", "launch=slurm", "launch.account=x0123456789abcdef"]) == 2
    out, err = capsys.readouterr()
    assert "launch.account: holds the value of $WANDB_API_KEY" in err
    assert "0123456789abcdef" not in out + err


@pytest.mark.parametrize("verb", ["launch --dry-run", "plan", "train"])
@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("PGPASSWORD", "tiny", "tracker.entity=${oc.env:PGPASSWORD}"),
        ("APIKEY", "0123456789", "tracker.entity=a0123456789"),
        ("MYSQL_PWD", 'it\'s "quoted"', "run.root='/tmp/it\\'s \"quoted\"'"),
        ("GITHUB_PAT", "first\na-second-line-of-this-secret", "run.root=/tmp/a-second-line-of-this-secret"),
        ("DB_PASS", "p@ss/w ord+1", "data.path=/tmp/p%40ss%2Fw%20ord%2B1"),
    ],
)
def test_a_secret_of_the_environment_is_refused_by_every_verb(
    verb: str,
    variable: str,
    value: str,
    word: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    said = answer(capsys, *verb.split(), word)
    assert f"${variable}" in said and value not in said
    assert list(here.iterdir()) == []


def test_a_secret_in_a_configuration_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGPASSWORD", "tiny")
    (here / "mine.yaml").write_text("name: wandb\nentity: ${oc.env:PGPASSWORD}\n")
    assert "mine.yaml:2: tracker.entity: reads $PGPASSWORD" in answer(capsys, "plan", "tracker=mine.yaml")


@pytest.mark.parametrize(
    "word", ["tracker.entity=hf_" + 34 * "a", "tracker.entity=AKIA" + 16 * "B", "data.path=https://me:pass@host/x"]
)
def test_what_looks_secret_is_refused(word: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "this is written down" in answer(capsys, "plan", word)


SECRET = "PGPASSWORD APIKEY MYSQL_PWD GITHUB_PAT HF_TOKEN WANDB_API_KEY GITHUBTOKEN SSHPASS DB_PASS NPM_AUTH KEY"
PLAIN = "PWD OLDPWD PATH PATCH MONKEY KEYBOARD COMPASS MAX_TOKENS TOKENIZERS_PARALLELISM SSH_AUTH_SOCK NPM_TOKEN_FILE"


def test_names_of_secrets() -> None:
    assert [name for name in SECRET.split() if not is_secret_name(name)] == []
    assert [name for name in PLAIN.split() if is_secret_name(name)] == []


def test_a_secret_is_found_as_files_and_shells_spell_it() -> None:
    value = 'it\'s a "pass\\word" with ümlaut\nand a second line & more'
    written = [json.dumps(value), json.dumps(value, ensure_ascii=False), shlex.quote(value), repr(value)]
    for text in written:
        assert any(spelled in text for spelled in spellings(value)), text


def test_text_that_looks_like_a_number_stays_text(here: Path) -> None:
    launch = ["launch=slurm", "launch.environment.COMMIT=12e4567", "launch.environment.PYTHON=3.10"]
    launch += ["launch.environment.RANK=007", "launch.environment.FLAG=true", "launch.comment=1e3", "run.id=45844855"]
    config = compose(launch)
    expected = {"COMMIT": "12e4567", "PYTHON": "3.10", "RANK": "007", "FLAG": "true"}
    assert {name: config.launch.environment[name] for name in expected} == expected
    assert (config.launch.comment, config.run.id) == ("1e3", "45844855")
    (here / "mine.yaml").write_text("name: slurm\ntime: 1:30:00\nenvironment:\n  A: 3.10\n  B: 12e4567\n  C: 007\n")
    config = compose(["launch=mine.yaml"])
    assert config.launch.environment == {"A": "3.10", "B": "12e4567", "C": "007"}
    assert config.launch.time == "1:30:00"
    assert change(config, ["launch.environment.A=1_000"]).launch.environment["A"] == "1_000"


def test_options_of_sbatch_that_undo_nothing_are_taken() -> None:
    words = ["--exclusive", "--comment=a b", "--mail-type=END", "--nodelist=a", "-pgpu", "--export=ALL,A=1", "-Jname"]
    config = compose(["launch=slurm", f"launch.sbatch={words}".replace("'--comment=a b'", "'--comment=a b'")])
    assert config.launch.sbatch == tuple(words)


@pytest.mark.parametrize(
    ("time", "expected"),
    [("90", 90), ("1:30", 1.5), ("2:00:30", 120.5), ("1-0", 1440), ("1-2:03", 1563), ("1-2:03:30", 1563.5)],
)
def test_wall_times_as_slurm_reads_them(time: str, expected: float) -> None:
    assert minutes(time) == expected


@pytest.mark.parametrize(
    ("gres", "expected"),
    [("gpu:a100:8", 8), ("gpu:4", 4), ("gpu", 1), ("gpu:a100", 1), ("gpu:a:2,gpu:b:3", 5), ("shard:3", None)],
)
def test_gpus_of_a_gres(gres: str, expected: int | None) -> None:
    assert gpus_of(gres) == expected


@pytest.mark.parametrize("least", [1, 2])
def test_hosts_that_ssh_does_not_reach(
    least: int, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is known within seconds is not waited for: the others are stopped, or go on where they are enough."""
    (here / "ssh").write_text(
        '#!/bin/bash\nwhile [ "$1" = -o ]; do shift 2; done; [ "$1" = -- ] && shift\n'
        '[ "$1" = a ] || { echo "ssh: Could not resolve hostname $1" >&2; exit 255; }\nexec bash -c "${*:2}"\n'
    )
    (here / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    config = compose([*TWO.split(), "launch.ssh=true", f"launch.min_nodes={least}"])
    work = "sleep 60" if least == 2 else "echo trained"
    plan = LaunchPlan(tuple(Command(("bash", "-c", f"exec {work}"), host) for host in ("a", "b")))
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        if least == 2:
            with pytest.raises(UserError, match=r"^launch\.hosts: b: ssh: Could not resolve hostname b$"):
                start_over_ssh(plan, config.launch)
        else:
            assert start_over_ssh(plan, config.launch) == 0
            out, err = capsys.readouterr()
            assert out == "a: trained\n"
            why = "launch.hosts: b: ssh: Could not resolve hostname b"
            assert err == f"isoflop: {why}; the others go on (launch.min_nodes=1)\n"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_hosts_get_one_new_secret_through_standard_input(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the plan nor a process list has it; one that is set where the launch is made goes along instead."""
    (here / "ssh").write_text(
        f'#!/bin/bash\necho "$@" >> {here}/words\nwhile [ "$1" = -o ]; do shift 2; done; [ "$1" = -- ] && shift\n'
        f'cat > {here}/"input-$1"\necho "pid 1"\n'
    )
    (here / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    monkeypatch.delenv(VARIABLE, raising=False)
    config = compose([*TWO.split(), "launch.ssh=true"])
    plan = plan_nodes(config, here, Resources())
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    found: list[str] = []
    try:
        for set_here in ("", "", "x" * CHARACTERS):
            monkeypatch.setenv(VARIABLE, set_here)
            assert start_over_ssh(plan, config.launch) == 0
            inputs = [(here / f"input-{host}").read_text() for host in ("a", "b")]
            (secret,) = {one for text in inputs for one in re.findall(rf"export {VARIABLE}=(\S+)\n", text)}
            found.append(secret)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert re.fullmatch(r"[0-9a-f]{64}", found[0])
    assert len(set(found)) == 3
    assert found[2] == "x" * CHARACTERS
    shown = plan.text + (here / "words").read_text() + "".join(capsys.readouterr())
    assert not [one for one in found if one in shown]


def test_pasted_commands_say_how_to_make_the_secret(here: Path) -> None:
    text = plan_nodes(compose(TWO.split()), here, Resources()).text
    assert f"export {VARIABLE}=..." in text
    made = subprocess.run(
        ["bash", "-c", text.rpartition("once:\n#")[2].splitlines()[0]], capture_output=True, text=True
    )
    assert re.fullmatch(r"[0-9a-f]{64}\n", made.stdout)
    assert VARIABLE not in plan_nodes(compose([*TWO.split(), "launch.rendezvous=static"]), here, Resources()).text


def test_a_variable_that_is_to_go_along_and_is_not_set() -> None:
    config = compose([*TWO.split(), "launch.ssh=true", "launch.pass_environment=[NOBODY_SET_THIS]"])
    with pytest.raises(UserError, match=r"launch\.pass_environment: NOBODY_SET_THIS: not set here"):
        start_over_ssh(LaunchPlan(()), config.launch)


def test_a_dry_run_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--dry-run", "launch=slurm"]) == 0
    assert "#SBATCH --nodes=1" in capsys.readouterr().out
    assert main(["launch", "--dry-run", "-m", "launch=slurm", "seed=0,1,2"]) == 0
    assert "#SBATCH --array=0-2" in capsys.readouterr().out
    assert main(["launch", "--dry-run", "launch=local", "launch.processes=2"]) == 0
    assert list(here.iterdir()) == []


def test_no_sbatch_on_the_path(
    here: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "there is no sbatch on the path" in answer(capsys, "launch", *tiny, "launch=slurm")


@pytest.mark.parametrize("rendezvous", ["c10d", "static"])
def test_a_port_in_use(rendezvous: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, token_hex(32))
    config = compose([*TWO.split(), f"launch.rendezvous={rendezvous}", "launch.rendezvous_seconds=1"])
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"launch.port: {port} cannot be used on .*Address already in use"):
            run_agent(config, here, Rendezvous("127.0.0.1", port))


@pytest.mark.parametrize("rendezvous", ["c10d", "static"])
def test_a_first_host_that_does_not_answer(rendezvous: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, token_hex(32))
    words = [*TWO.split(), f"launch.rendezvous={rendezvous}", "launch.rendezvous_seconds=1"]
    port = free_port()
    with pytest.raises(UserError, match=rf"no rendezvous at 127.0.0.1:{port} within 1 s \(launch.rendezvous_seconds\)"):
        run_agent(compose(words), here, Rendezvous("127.0.0.1", port, node=1))


@pytest.mark.parametrize(("secret", "what"), [("", "is not set on this node"), ("short", "has 5 characters")])
def test_a_node_without_the_launch_s_secret(
    secret: str, what: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, secret)
    (here / "config.yaml").write_text(compose([*TWO.split(), "launch.rendezvous_seconds=1"]).to_yaml())
    assert agent(["--host", "127.0.0.1", "--port", "1", "--node", "1", "--address", "127.0.0.1", str(here)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"isoflop: {VARIABLE} {what}")
    assert "launch.rendezvous=static" in line
    assert "short" not in line


def test_a_resume_may_change_the_number_of_ranks() -> None:
    before = compose(["launch=slurm", "launch.gpus_per_node=8"])
    assert change(before, ["launch.gpus_per_node=4"]).launch.processes == 4
    assert change(before, ["launch.processes=2"]).launch.processes == 2
    assert change(before, ["launch=local"]).launch.ranks == 1


def test_secrets_are_known_by_name_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("DB_PASSWORD", "tell-nobody")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-false")
    assert {"WANDB_API_KEY", "DB_PASSWORD"} <= set(secrets())
    assert "TOKENIZERS_PARALLELISM" not in secrets()
    assert without_secrets("key=0123456789abcdef;") == "key=$WANDB_API_KEY;"
    with pytest.raises(UserError, match=r"config.yaml would hold the value of \$DB_PASSWORD"):
        keep_state(tmp_path, "tracker: {project: tell-nobody}")
    assert not (tmp_path / "config.yaml").exists()


def test_a_secret_on_the_command_line_leaves_no_trace(
    here: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    told = answer(capsys, "launch", *tiny, "run.id=leak", "tracker.project=my-0123456789abcdef")
    assert "tracker.project: holds the value of $WANDB_API_KEY" in told
    assert "0123456789abcdef" not in told
    assert list(here.iterdir()) == []
