"""The libraries that go on from here take our checkpoints: one step of each (pip install 'isoflop[tune]')."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("datasets")

import datasets
import transformers
from test_runs import run_of, tokenizer  # noqa: F401 - a fixture

from trainer.hub import export_run

TEXTS = ["def f(a):\n    return a\n", "import os\n", "class A:\n    pass\n", "for i in x:\n    print(i)\n"]


@pytest.fixture
def exported(tmp_path, tokenizer):  # noqa: F811
    run_of(tmp_path / "run", tokenizer, {})
    export_run(tmp_path / "run", tmp_path / "out")
    return tmp_path / "out"


def changed(before, model):
    return any(not torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_a_step_of_transformers_trainer(exported, tmp_path):
    chat = transformers.AutoTokenizer.from_pretrained(exported)
    model = transformers.AutoModelForCausalLM.from_pretrained(exported)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = datasets.Dataset.from_list([{"input_ids": chat(text)["input_ids"]} for text in TEXTS])
    settings = transformers.TrainingArguments(
        output_dir=str(tmp_path / "trainer"), max_steps=1, per_device_train_batch_size=4, use_cpu=True, report_to=[]
    )
    collator = transformers.DataCollatorForLanguageModeling(chat, mlm=False)
    result = transformers.Trainer(model=model, args=settings, train_dataset=rows, data_collator=collator).train()
    assert result.global_step == 1 and result.training_loss > 0 and changed(before, model)


@pytest.mark.slow
def test_a_step_of_trl(exported, tmp_path):
    trl = pytest.importorskip("trl")
    model = transformers.AutoModelForCausalLM.from_pretrained(exported)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pairs = [{"prompt": "def ", "chosen": "f(a):\n", "rejected": "a)f:\n"}] * 4
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"), max_steps=1, per_device_train_batch_size=4, use_cpu=True, report_to=[],
        bf16=False, max_length=32,
    )  # fmt: skip
    trainer = trl.DPOTrainer(
        model=model,
        args=settings,
        train_dataset=datasets.Dataset.from_list(pairs),
        processing_class=transformers.AutoTokenizer.from_pretrained(exported),
    )
    result = trainer.train()
    assert result.global_step == 1
    # Before the first step a policy is its reference: the loss is log 2.
    assert result.training_loss == pytest.approx(0.6931, abs=1e-3) and changed(before, model)
