"""Our adapter and runner against lm-evaluation-harness itself, on the same weights."""

from __future__ import annotations

import json
import logging

import pytest

from trainer.config import DataConfig
from trainer.evaluate.tasks import find_tasks, run_task
from trainer.generation.loaded_model import Trained
from trainer.hub import export_run

pytest.importorskip("transformers")
lm_eval = pytest.importorskip("lm_eval")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.slow

COMMON = {
    "dataset_path": "json",
    "test_split": "test",
    "doc_to_text": "{{ question }}\nanswer:",
    "metadata": {"version": 1},
}
TASKS = {
    "choice": {"output_type": "multiple_choice", "doc_to_choice": "{{ choices }}", "doc_to_target": "{{ label }}"},
    "likely": {"output_type": "loglikelihood", "doc_to_target": "{{ choices[label] }}"},
    "rolled": {"output_type": "loglikelihood_rolling", "doc_to_target": "{{ text }}", "doc_to_text": ""},
    "wrote": {
        "output_type": "generate_until",
        "doc_to_target": "{{ choices[label] }}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    import yaml

    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {
            "question": f"def f{number}(value):\n    return value * {number}\n# f{number}(2)",
            "choices": [str(2 * number), "None", "self.value"],
            "label": number % 3,
            "text": "\n".join(f"value_{line} = {line * number}" for line in range(20)),
        }
        for number in range(12)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, keys in TASKS.items():
        files = {"dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **COMMON, **files, **keys}))
    return folder


def harness(model, arguments, tasks):
    from lm_eval.tasks import TaskManager

    import trainer.evaluate.lm_eval_model  # noqa: F401, registers "isoflop"

    logging.disable(logging.WARNING)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=list(TASKS),
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
        batch_size=4,
        device="cpu",
    )
    return found["results"], found["samples"]


@pytest.fixture(scope="module")
def both(untrained, tasks, tmp_path_factory):
    run = untrained(vocabulary=800)  # no rows behind the tokenizer's, which the hf model gives a share to
    exported = tmp_path_factory.mktemp("hub") / "model"
    export_run(run, exported)
    theirs = harness("hf", {"pretrained": str(exported), "dtype": "float32"}, tasks)
    plain = harness("isoflop", {"run": str(run), "add_bos_token": False}, tasks)
    return run, theirs, plain, harness("isoflop", {"run": str(run)}, tasks)


def test_the_adapter_scores_as_the_hf_model_does(both):
    _, (their_results, their_samples), (results, samples), _ = both
    for name in TASKS:
        for one, other in zip(samples[name], their_samples[name], strict=True):
            mine, wanted = one["resps"], other["resps"]
            if name == "wrote":
                assert mine == wanted
                continue
            for (a,), (b,) in zip(mine, wanted, strict=True):
                values = zip(a, b, strict=True) if isinstance(a, tuple | list) else [(a, b)]
                for x, y in values:
                    assert x == pytest.approx(y, abs=1e-5 * max(1, abs(y) if isinstance(y, float) else 1))
        for metric, value in their_results[name].items():
            if isinstance(value, float):
                assert results[name][metric] == pytest.approx(value, rel=1e-5), (name, metric)


def test_our_runner_scores_as_the_harness_does(both, tasks):
    run, _, _, (results, _) = both
    trained = Trained.load(run)
    for task in find_tasks([str(tasks)], 10, 0, DataConfig()):
        for metric, value in run_task(trained, task, 0).values.items():
            assert value.value == pytest.approx(results[task.name][f"{metric},none"], rel=1e-4), (task.name, metric)
