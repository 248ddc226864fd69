"""Science, numerics, machinery: which key is which, and the arithmetic that a run folder tells of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.config import Config, host, load
from trainer.config.numerics import UNKNOWN, asked, kind, numerics, numerics_keys, tag
from trainer.report import read_run
from trainer.run_folder import RunFolder
from trainer.training.numerics import numerics_of_attempt

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "run_folders"
FROM_0_1_0 = sorted(path.parent for path in GOLDEN.glob("**/config.yaml"))


def config(precision: str = "auto", **deepspeed: Any) -> Config:
    return Config.model_validate({"engine": {"precision": precision, "device": "cpu", "deepspeed": deepspeed}})


def test_every_key_is_of_one_of_three_kinds() -> None:
    assert kind("optim.lr") == kind("seed") == kind("anomalies.skip") == "science"
    assert kind("engine.precision") == kind("engine.deepspeed.torch_autocast.enabled") == "numerics"
    assert kind("engine.deepspeed.communication_data_type") == "numerics"
    assert kind("engine.zero_stage") == kind("kernels.attention") == kind("engine.deepspeed.wall_clock_breakdown")
    assert kind("engine.zero_stage") == kind("engine.deepspeed.bf16x") == "machinery"
    assert numerics_keys() == ("engine.precision", "engine.linear", "engine.wire_gradients")
    with pytest.raises(KeyError):
        kind("optimizer.lr")


def test_numerics_are_no_part_of_the_identity() -> None:
    one, other = config("fp32"), config("bf16", communication_data_type="fp16")
    assert one.science_hash() == other.science_hash() == config().science_hash()
    assert tag(numerics(one)) != tag(numerics(other))


@pytest.mark.parametrize(("native", "wanted"), [({"avx512_bf16"}, "bf16"), (set(), "fp32")])
def test_auto_is_what_it_comes_to_on_this_host(native: set[str], wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_cpuinfo", lambda name: " ".join(native))
    assert tag(numerics(config())) == wanted and tag(asked(config())) == "auto"


def test_raw_keys_that_change_arithmetic_are_in_the_tag_and_no_others() -> None:
    given = config("fp32", torch_autocast={"enabled": True, "dtype": "bfloat16"}, wall_clock_breakdown=True)
    assert tag(numerics(given)) == "fp32 torch_autocast.dtype=bfloat16 torch_autocast.enabled=true"
    assert tag(numerics(config("fp32", fp16={"enabled": False, "loss_scale": 0}))) == "fp32"
    buckets = {"reduce_bucket_size": 5, "zero_quantized_gradients": True}
    assert (
        tag(numerics(config("bf16", zero_optimization=buckets)))
        == "bf16 zero_optimization.zero_quantized_gradients=true"
    )


def test_a_newer_key_is_in_the_tag_where_it_changes_something() -> None:
    """Runs of before there was the key and runs of now are of one arithmetic."""
    given = Config.model_validate({"engine": {"precision": "bf16", "linear": "fp8"}})
    assert numerics(given) == {"engine.precision": "bf16", "engine.linear": "fp8"}
    assert tag(numerics(given)) == tag(asked(given)) == "bf16 linear=fp8" and kind("engine.linear") == "numerics"
    assert numerics(config("bf16")) == {"engine.precision": "bf16"}
    assert given.science_hash() == config("bf16").science_hash()


def test_a_frozen_configuration_says_its_numerics_and_is_read_without(tmp_path: Path) -> None:
    made, file = config(), tmp_path / "config.yaml"
    file.write_text(made.to_yaml(numerics={"engine.precision": "bf16"}))
    assert "engine.precision: bf16" in file.read_text() and load(file) == made


def folder(path: Path, *attempts: tuple[str, str | None], precision: str = "auto") -> RunFolder:
    """A run of these attempts: the precision that its first event names, and what environment.json says of it."""
    run = RunFolder(path)
    run.config.write_text(config(precision).to_yaml())
    events, entries = [], []
    for number, (event, entry) in enumerate(attempts):
        text = f"start: 4 steps of 2 x 32 tokens on 1 rank(s) at ZeRO 0 in {event}"
        events.append({"name": "resume" if number else "start", "attempt": number, "text": text})
        said = {} if entry is None else {"numerics": {"engine.precision": entry}}
        entries.append({"attempt": number, **said})
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"name": "to')
    run.environment.write_text(json.dumps(entries))
    return run


def test_a_run_tells_the_arithmetic_of_its_attempts(tmp_path: Path) -> None:
    run = folder(tmp_path, ("fp32", None), ("fp32", "fp32"), ("bf16", "bf16"))
    assert run.numerics(config()) == ["fp32", "bf16"]
    assert run.numerics(config(), before=2) == ["fp32"]
    assert read_run(tmp_path).numerics == "fp32, then bf16"


def test_where_no_file_tells_it_is_not_made_up(tmp_path: Path) -> None:
    assert read_run(folder(tmp_path).path).numerics == UNKNOWN
    assert folder(tmp_path, precision="bf16").numerics(config("bf16")) == ["bf16"]


@pytest.mark.parametrize("run", FROM_0_1_0, ids=lambda run: run.name)
def test_runs_of_0_1_0_have_theirs_from_what_they_wrote(run: Path) -> None:
    assert read_run(run).numerics in ("fp32", "bf16")


@pytest.mark.parametrize(("now", "told"), [("bf16", True), ("fp32", False)])
def test_a_resume_in_other_numerics_says_so_and_goes_on(now: str, told: bool, tmp_path: Path) -> None:
    run = folder(tmp_path, ("fp32", None), (now, None))
    said: list[tuple[Any, ...]] = []
    values = numerics_of_attempt(config(now), run, 1, 8, lambda *words, **data: said.append((*words, data)))
    assert values == {"engine.precision": now}
    assert [(name, step, data) for name, step, _, data in said] == [
        ("numerics", 8, {"before": "fp32", "now": "bf16"})
    ] * told
