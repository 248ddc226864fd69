"""`isoflop doctor`: what is told of a host, and what keeps a run from it."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path

import pytest
import torch

from launch import doctor
from trainer.cli.main import main
from trainer.config.host import NATIVE_BF16

Said = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOFLOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("launch.preflight.MEASURING_SECONDS", 0.0)
    return tmp_path


def findings(capsys: Said, *words: str, code: int = 0) -> dict[str, list[dict[str, str]]]:
    """By area."""
    assert main(["doctor", *words, "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report["fit"] == (code == 0)
    found: dict[str, list[dict[str, str]]] = {}
    for one in report["findings"]:
        found.setdefault(one["area"], []).append(one)
    return found


def test_it_tells_what_is_here_and_leaves_nothing(capsys: Said, here: Path) -> None:
    found = findings(capsys, "engine.device=cpu", "engine.threads=1")
    assert f"torch {importlib.metadata.version('torch')}" in found["packages"][0]["says"]
    assert f"of {os.cpu_count()} cores" in found["device"][0]["says"]
    assert found["threads"][0]["says"].startswith("1 a rank, 1 rank")
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert found["precision"][0]["says"].startswith("bf16" if flags & NATIVE_BF16 else "fp32")
    assert "attention by sdpa" in found["kernels"][0]["says"] and "right" in found["arithmetic"][0]["says"]
    assert list(here.iterdir()) == []


def test_attention_is_what_a_run_of_these_words_uses(capsys: Said) -> None:
    words = ["engine.device=cpu", "model=gpt-mini", "kernels.attention=reference", "tracker.wandb=offline"]
    found = findings(capsys, *words)
    assert found["kernels"][0]["says"].startswith("attention by reference (asked for)")
    assert "on: console, jsonl, wandb" in found["trackers"][0]["says"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_wrong(capsys: Said) -> None:
    found = findings(capsys, "engine.device=cuda", code=1)
    assert found["device"][0]["state"] == "wrong" and found["device"][0]["says"] == "0 CUDA devices, 1 wanted"


def test_a_folder_that_cannot_be_written_is_wrong(capsys: Said) -> None:
    found = findings(capsys, "engine.device=cpu", "run.root=/proc/runs", "run.cache=/proc/cache", code=1)
    assert found["runs"][0]["state"] == "wrong"


def test_a_missing_extra_has_its_line_of_pip_and_a_missing_need_ends_it(
    capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = importlib.metadata.version

    def without(*absent: str) -> None:
        def version(name: str) -> str:
            if name in absent:
                raise importlib.metadata.PackageNotFoundError(name)
            return whole(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    without("tensorboard")
    extras = findings(capsys, "engine.device=cpu")["extras"]
    mine = next(one for one in extras if one["says"].startswith("tensorboard"))
    assert (mine["state"], mine["do"]) == ("missing", "pip install 'isoflop[tensorboard]'")
    assert not any("test" in one["says"].split(":")[0].split() for one in extras)
    without("deepspeed")
    found = findings(capsys, code=1)
    assert found["packages"][0]["says"].count("deepspeed not installed") == 1
    assert [one["says"] for one in found["packages"] if one["state"] == "wrong"] == ["deepspeed is not installed"]
    assert "device" not in found


def test_text_marks_what_is_wrong(capsys: Said) -> None:
    found = [doctor.Finding("a", "fine"), doctor.Finding("b", "bad", "wrong", "mend it")]
    text = doctor.format_findings(found)
    assert "! b  bad: mend it" in text and "1 thing (!) to mend" in text and doctor.exit_code(found) == 1


def test_bad_words_are_one_line(capsys: Said) -> None:
    assert main(["doctor", "engine.treads=1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
