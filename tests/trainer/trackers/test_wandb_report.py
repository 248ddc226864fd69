"""After the run: its price tag and its pages reach W&B, offline and online, and no failure there reaches the run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.config import Config

ROOT = Path(__file__).resolve().parents[3]
KEY = "k" * 40
FINISH = (
    "import sys; from pathlib import Path; from trainer.report import finish_report; finish_report(Path(sys.argv[1]))"
)


@pytest.fixture
def folder(tmp_path, make_step):
    """A run of five steps that W&B has heard of, with the data card that its corpus would give."""
    run = tmp_path / "runs" / "experiment" / "r1"
    (run / "wandb").mkdir(parents=True)
    (run / "wandb" / "id").write_text("abc123\n")
    config = Config.model_validate(
        {
            "data": {"name": "text", "path": (str(tmp_path / "gone.txt"),)},
            "budget": {"steps": 5},
            "tracker": {"wandb": "auto"},
        }
    )
    (run / "config.yaml").write_text(config.to_yaml())
    records = [make_step(step, joules={"gpu": 7200.0 * step}).to_json() for step in range(1, 6)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (run / "data_card.md").write_text("# The corpus\n")
    return run


def finish(run: Path, url: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {"HOME": str(run.parent), "PYTHONPATH": str(ROOT)}
    env |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY} if url else {"WANDB_MODE": "offline"}
    command = [sys.executable, "-c", FINISH, str(run)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)


def records(run: Path) -> list[dict]:
    """Every record of the offline folder, as the client's own reader tells it."""
    [folder] = (run / "wandb").glob("offline-run-*")
    tool = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    out = subprocess.run(tool, capture_output=True, text=True, timeout=300, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def test_offline_it_waits_on_disk(folder):
    done = finish(folder)
    assert re.search("and its report with: .*wandb sync", done.stdout)
    text = json.dumps(records(folder))
    for expected in ("price_tag_measured", "report-abc123", "data-card-abc123", "report.html", "data_card.md"):
        assert expected in text
    assert KEY not in text


def test_online_the_summary_arrives_and_a_server_without_artifacts_fails_nothing(folder, wandb_server):
    done = finish(folder, wandb_server.url)
    assert (folder / "report.html").is_file()
    assert "price_tag_measured" in "".join(body for _, path, _, body in wandb_server.log if "file_stream" in path)
    assert "Traceback" not in done.stderr
