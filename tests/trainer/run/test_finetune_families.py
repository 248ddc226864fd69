"""Fine-tuning of encoders, encoder-decoders and imported checkpoints, on one rank and on two."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from trainer.run_folder import RunFolder
from trainer.training.checkpoint import valid_checkpoints

WORDS = [f"word{number}" for number in range(30)]


@pytest.fixture(scope="module")
def isoflop(command, tmp_path_factory):
    return command(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """One text for every kind of task: is there "yes" in it, which words are names, which are asked for, its end."""
    file = tmp_path_factory.mktemp("records") / "records.jsonl"
    lines = []
    for number in range(48):
        said, name = ("yes", "no")[number % 2], f"Ann{number % 5}"
        text = f"{WORDS[number % 30]} {said} {name} {WORDS[number % 7]}"
        begin = text.index(name)
        tags = ["O", "O", "B-PER", "O"]
        lines.append(
            {
                **{"text": text, "label": said, "tags": tags, "question": "who?", "answer": said},
                "answers": {"text": [name], "answer_start": [begin]},
                **{"chosen": "good", "rejected": "bad"},
            }
        )
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


KINDS = {
    "sequence": ["task.answer=label"],
    "token": ["task.answer=tags"],
    "span": ["task.text=[question,text]", "task.answer=answers"],
    "text": ["task.answer=answer"],
    "reward": ["task.answer=[chosen,rejected]"],
    "preference": ["task.answer=[chosen,rejected]"],
}


def tune(isoflop, parent, kind, records, *words):
    """The result as the verb prints it."""
    task = [f"task.kind={kind}", f"task.name={kind}", f"task.train={records}", f"task.held_out={records}", *KINDS[kind]]
    settings = ["optim.batch_size=16", "engine.threads=1", "engine.precision=fp32", "evaluation.every_steps=null"]
    done = isoflop("finetune", str(parent), *task, *settings, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def weights(run):
    return next(valid_checkpoints(RunFolder(Path(run)).checkpoints)).weights()


slow = pytest.mark.slow
LEARNED = [
    ("masked_lm", "sequence", "accuracy"),
    ("bart", "text", "exact_match"),
    *(
        pytest.param(objective, kind, metric, marks=slow)
        for objective, kind, metric in (
            ("masked_lm", "token", "entity_f1"),
            ("masked_lm", "span", "exact_match"),
            ("masked_lm", "reward", "accuracy"),
            ("bart", "sequence", "accuracy"),
            ("bart", "span", "exact_match"),
            ("span_corruption", "text", "exact_match"),
            ("mass", "text", "exact_match"),
            ("causal", "preference", "accuracy"),
            ("span_corruption", "preference", "accuracy"),
        )
    ),
]


@pytest.mark.parametrize(("objective", "kind", "metric"), LEARNED)
def test_every_family_learns_its_tasks(objective, kind, metric, untrained, isoflop, records):
    found = tune(isoflop, untrained(objective), kind, records, "budget.steps=80", "optim.lr=3e-3")
    assert found["metrics"][metric] > 0.95
    for baseline in ("most frequent", "by chance"):
        assert found.get("baselines", {}).get(baseline, {}).get(metric, 0) < 0.8


@pytest.fixture(scope="module")
def opinions(tmp_path_factory):
    """Answers of words of one half of a vocabulary are preferred to those of the other; files of different records."""
    folder, chance = tmp_path_factory.mktemp("opinions"), random.Random(0)
    files = []
    for split, count in (("train", 400), ("held_out", 80)):
        files.append(folder / f"{split}.jsonl")
        halves = [[" ".join(chance.sample(half, 3)) for _ in range(count)] for half in (WORDS[:15], WORDS[15:])]
        asked = (" ".join(chance.sample(WORDS, 2)) for _ in range(count))
        each = zip(asked, *halves, strict=True)
        lines = [json.dumps({"text": text, "chosen": good, "rejected": bad}) for text, good, bad in each]
        files[-1].write_text("\n".join(lines))
    return files


@pytest.mark.parametrize(("kind", "metric", "chance"), [("preference", "margin", 0.0), ("reward", "accuracy", 0.5)])
def test_preferences_carry_over_to_held_out_answers(kind, metric, chance, untrained, isoflop, opinions):
    """From 0, where a policy is its reference, the margin rises; the reward model beats chance by its interval."""
    train, held_out = opinions
    words = [f"task.train={train}", f"task.held_out={held_out}", "optim.lr=2e-3"]
    found = tune(isoflop, untrained(), kind, train, *words, "budget.steps=50")
    low, _ = found["intervals"][metric]
    assert chance < low < found["metrics"][metric] and found["records"] == 80
    if kind == "preference":
        begin = tune(isoflop, untrained(), kind, train, *words, "budget.steps=1", "optim.lr=1e-30")
        assert begin["metrics"]["margin"] == pytest.approx(0, abs=1e-3)


@pytest.fixture
def published(tmp_path):
    """A checkpoint of BERT as transformers saves it, with a tokenizer.json, and its weights in our names."""
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words.decoder = tokenizers.decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    words.train_from_iterator([f"{word} yes no Ann who? good bad" for word in WORDS], trainer)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(0)
    config = transformers.BertConfig(**sizes, vocab_size=120, max_position_embeddings=64)
    folder = tmp_path / "published"
    transformers.BertForPreTraining(config).save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return folder


def test_an_imported_checkpoint_is_a_parent(published, isoflop, records):
    parent = isoflop.folder / "imported"
    done = isoflop("import", str(published), f"to={parent}")
    assert done.returncode == 0, done.stderr
    still = tune(isoflop, parent, "sequence", records, "budget.steps=1", "optim.lr=1e-30")
    before, after = weights(parent), weights(still["run"])
    body = {name for name in after if name.startswith("body.")}
    assert len(body) > 20 and all(torch.equal(after[name], before[name.removeprefix("body.")]) for name in body)
    learned = tune(isoflop, parent, "sequence", records, "budget.steps=40", "optim.lr=3e-3")
    assert learned["metrics"]["accuracy"] > 0.9 > still["metrics"]["accuracy"]
    transformers = pytest.importorskip("transformers")
    exported = isoflop.folder / "exported"
    assert isoflop("export", learned["run"], f"to={exported}").returncode == 0
    assert transformers.AutoModelForSequenceClassification.from_pretrained(exported).config.num_labels == 2


@slow
@pytest.mark.parametrize(("objective", "kind"), [("masked_lm", "sequence"), ("bart", "text"), ("causal", "preference")])
def test_two_ranks_tune_as_one_does(objective, kind, untrained, isoflop, records):
    parent, words = untrained(objective), ("budget.steps=4", "optim.lr=1e-3")
    alone = weights(tune(isoflop, parent, kind, records, *words)["run"])
    for stage in (1, 2):
        run = tune(isoflop, parent, kind, records, *words, "launch.processes=2", f"engine.zero_stage={stage}")["run"]
        found = weights(run)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-5)
