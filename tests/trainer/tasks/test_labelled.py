"""Labelled tasks in pre-training: exact shares, the very text of a template, any layout, losses by task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer.data.loading import fixed
from trainer.books.lengths import lengths
from trainer.compose import compose
from trainer.config import Config
from trainer.data import Samples, StepLoader, Tokenizer
from trainer.data.card import format_card
from trainer.models import NOT_A_TARGET, build, initialize
from trainer.objectives.causal import PrefixLM
from trainer.tasks.labelled import MixedData, MixedSamples, check_mixed, prompt_order
from trainer.tasks.rates import TEXT
from trainer.tasks.show import card, show
from trainer.training.dataset import examples, prepare
from trainer.training.distributed import World
from trainer.training.validation import Validation
from trainer.utils.errors import UserError

FAMILIES = {
    "causal": ["model=llama-mini"],
    "prefix_lm": ["model=llama-mini", "objective=prefix_lm"],
    "span_corruption": ["model=t5-mini", "objective=span_corruption", "data.mixing.answer_length=24"],
}


def write(folder: Path, name: str, records: list[dict[str, Any]]) -> Path:
    file = folder / name
    file.write_text("\n".join(map(json.dumps, records)))
    return file


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two tasks in forms of their own: 30 questions about numbers, 120 labelled sentences."""
    folder = tmp_path_factory.mktemp("tasks")
    sums = [{"instruction": f"add {n}", "input": f"{n} 1", "output": f"{n + 1}"} for n in range(30)]
    cola = [{"sentence": f"cab {n}", "label": n % 2} for n in range(120)]
    return {"sums": write(folder, "sums.jsonl", sums), "cola": write(folder, "cola.jsonl", cola)}


@pytest.fixture(scope="module")
def make_config(corpus: Path, cache: Path, tasks: dict[str, Path]) -> Callable[..., Config]:
    def make(objective: str = "causal", *words: str) -> Config:
        cola = (
            f"train: {tasks['cola']}, input: 'cola sentence: {{sentence}}', answer: label, options: {{0: no, 1: yes}}"
        )
        return compose(
            [
                *("data=text", f"data.path={corpus}", f"run.cache={cache}", "data.sequence_length=96"),
                *("tokenizer.vocabulary=420", "data.held_out=0.2", "model.depth=1", "model.width=32", "model.heads=2"),
                *("optim.batch_size=8", "budget.steps=40", "data.mixing.limit=60", f"+data.tasks.cola={{{cola}}}"),
                *(f"+data.tasks.sums.train={tasks['sums']}", *FAMILIES[objective], *words),
            ]
        )

    return make


def mixed(config: Config) -> MixedSamples:
    found = examples(prepare(config), config, "train")
    assert isinstance(found, MixedSamples)
    return found


def documents(batch: dict[str, np.ndarray], row: int, own: Tokenizer) -> list[tuple[str, str]]:
    """(what is read, what is to be written) of each exchange of a row."""
    found = []
    for number in range(int(batch["segments"][row].max()) + 1):
        mine = batch["segments"][row] == number
        read, targets = batch["tokens"][row][mine], batch["targets"][row][mine]
        if "source_tokens" in batch:
            read = batch["source_tokens"][row][batch["source_segments"][row] == number]
        else:
            read = read[: 1 + int(np.argmax(targets != NOT_A_TARGET))]
        found.append((own.decode(read.tolist()), own.decode(targets[targets != NOT_A_TARGET].tolist())))
    return found


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_realised_shares_are_the_papers_formula(make_config: Any, packing: str) -> None:
    """min(e_m, K) / sum of min(e_n, K) by fractions; a sample that holds c examples is so much rarer."""
    config = make_config("causal", f"data.packing={packing}", "data.sequence_length=128")
    samples = mixed(config)
    sizes = samples.sizes
    assert sizes["sums"] + sizes["cola"] < 150 and sizes["cola"] > 60  # some are held out
    together = {name: Fraction(sizes[name], len(samples.tasks[name])) for name in ("sums", "cola")} | {
        TEXT: Fraction(1)
    }
    assert (together["cola"] > 1) == (packing == "packed")
    weights = {name: min(size, 60) / together[name] for name, size in sizes.items()}
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    counted: Counter[str] = Counter()
    for stop in range(1, 400):
        counted[samples.of(stop - 1, stop)[0][0]] += 1
        assert all(abs(counted[name] - stop * share) < 1 for name, share in shares.items())
        told = {used.source: used.samples for used in samples.usage(stop)}
        assert told == {"text": counted[TEXT], "cola": counted["cola"], "sums": counted["sums"]} or stop < 4
    epochs = {used.source: used.epochs for used in samples.usage(400)}
    assert epochs["sums"] == samples.mixing.counts(400)["sums"] / len(samples.tasks["sums"])


@pytest.mark.parametrize("objective", FAMILIES)
def test_the_first_batch_is_the_text_of_the_templates(make_config: Any, tasks: Any, objective: str) -> None:
    config = make_config(objective, "data.packing=padded", "data.sequence_length=160")
    samples, own = mixed(config), Tokenizer(prepare(config).tokenizer_file)
    drawn, batch = samples.of(0, 24), samples.batch(0, 24)
    wanted = {f"cola sentence: cab {n}": ("no", "yes")[n % 2] for n in range(120)}
    sums = "Here is a task, and what it is about. Write what it asks for.\n\n### Instruction:\nadd {}\n\n"
    wanted |= {f"{sums.format(n)}### Input:\n{n} 1\n\n### Response:": f"{n + 1}" for n in range(30)}
    asked = [documents(batch, row, own) for row, (name, _) in enumerate(drawn) if name != TEXT]
    assert len(asked) > 4 and all(len(one) == 1 and wanted[one[0][0]] == one[0][1] for one in asked)
    text = Samples(prepare(config).text, config, "train")
    mine = [row for row, (name, _) in enumerate(drawn) if name == TEXT]
    alone = text.batch(0, len(mine))
    for name, array in alone.items():  # what a run on the text alone reads, in its order
        width = array.shape[1]
        assert np.array_equal(batch[name][mine][:, :width], array)
    assert not (batch["targets"][mine][:, alone["targets"].shape[1] :] != NOT_A_TARGET).any()


@pytest.mark.parametrize("objective", FAMILIES)
def test_any_range_and_any_layout_reads_the_same(make_config: Any, objective: str) -> None:
    """Also a fresh one, as after a resume, and one on three ranks in smaller micro-batches."""
    config = make_config(objective)
    whole = mixed(config).batch(0, 24)
    again = mixed(config)
    for start, stop in ((16, 24), (0, 3), (5, 6), (7, 19)):
        part = again.batch(start, stop)
        assert part.keys() == whole.keys()
        assert all(np.array_equal(part[name], whole[name][start:stop]) for name in whole)
    loaders = [StepLoader(again, **fixed(8, 2), rank=rank, world_size=3) for rank in range(3)]
    steps = [[batch for loader in loaders for batch in loader.step(step)] for step in (0, 1)]
    for step, batches in enumerate(steps):
        rows = np.concatenate([batch["tokens"] for batch in batches])
        there = np.concatenate([(batch["segments"] >= 0).any(axis=1) for batch in batches])
        assert np.array_equal(rows[there], whole["tokens"][8 * step : 8 * step + 8])


def test_records_are_read_once_an_epoch_and_those_held_out_never(make_config: Any) -> None:
    config = make_config("causal", "data.packing=padded")
    source = prepare(config)
    assert isinstance(source, MixedData)
    samples = MixedSamples(source, config)
    for name, task in samples.tasks.items():
        epochs = [[task.where(n, n + 1)[0][0] for n in range(e * len(task), (e + 1) * len(task))] for e in (0, 1)]
        assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(len(task))) and epochs[0] != epochs[1]
        fields = [
            {json.dumps(one.record.fields) for one in part}
            for part in (source.tasks[name].train, source.tasks[name].held_out)
        ]
        assert fields[0] and fields[1] and not fields[0] & fields[1]
    assert source.fingerprint != prepare(make_config("causal", "data.held_out=0.3")).fingerprint


def test_a_prompt_is_a_prefix_that_is_read_in_both_directions(make_config: Any) -> None:
    """By the order of attention of the text's own prefixes: 0 to the token that predicts the first target."""
    config = make_config("prefix_lm")
    samples = mixed(config)
    rows = [row for row, (name, _) in enumerate(samples.of(0, 24)) if name != TEXT]
    batch = samples.batch(0, 24)
    for row in rows:
        for number in range(int(batch["segments"][row].max()) + 1):
            mine = batch["segments"][row] == number
            targets, order = batch["targets"][row][mine], batch["order"][row][mine]
            first = int(np.argmax(targets != NOT_A_TARGET))
            assert (order[: first + 1] == 0).all()
            assert (order[first + 1 :] == np.arange(first + 1, len(order))).all()
    text = [row for row, (name, _) in enumerate(samples.of(0, 24)) if name == TEXT]
    part = {name: array[text] for name, array in batch.items()}
    assert np.array_equal(prompt_order(part)[part["segments"] >= 0], part["order"][part["segments"] >= 0])
    assert PrefixLM.__doc__ and batch["order"].dtype == np.int32


def test_no_answer_is_seen_before_it_is_written(make_config: Any) -> None:
    """Gradients of a target's loss by the embeddings of what the model reads: exactly zero at later tokens of the
    answer and at other exchanges, not at the prompt's last token."""
    config = make_config("prefix_lm", "engine.precision=fp32")
    samples = mixed(config)
    row = next(row for row, (name, _) in enumerate(samples.of(0, 24)) if name == "cola")
    batch = {name: torch.from_numpy(array[row : row + 1]) for name, array in samples.batch(0, 24).items()}
    model = build(config)
    initialize(model, 0)
    seen = []
    model.backbone.tokens.register_forward_hook(lambda module, given, made: seen.append(made) or made.retain_grad())
    targets, segments = batch["targets"][0], batch["segments"][0]
    place = int((targets != NOT_A_TARGET).nonzero()[0])
    alone = torch.full_like(batch["targets"], NOT_A_TARGET)
    alone[0, place] = targets[place]
    loss, _, _ = model(**batch | {"targets": alone})
    loss.backward()
    gradient = seen[0].grad[0].abs().sum(dim=-1)
    assert (gradient[place + 1 :] == 0).all() and (gradient[segments != segments[place]] == 0).all()
    assert (gradient[: place + 1][segments[: place + 1] == segments[place]] > 0).all()


@pytest.mark.parametrize("objective", FAMILIES)
def test_three_steps_and_the_loss_of_each_task(make_config: Any, objective: str) -> None:
    config = make_config(objective)
    source = prepare(config)
    samples = MixedSamples(source, config)
    model = build(config)
    initialize(model, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(3):
        batch = {name: torch.from_numpy(array) for name, array in samples.batch(8 * step, 8 * step + 8).items()}
        loss, count, _ = model(**batch)
        (loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach() / count))
    assert losses[2] < losses[0]

    @torch.no_grad()
    def forward(batch: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        loss, count, _ = model(**{name: torch.from_numpy(array) for name, array in batch.items()})
        return loss, count

    class Engine:
        averages = SimpleNamespace(names=[])

        def evaluation(self, average: str | None = None) -> Any:
            from contextlib import nullcontext

            return nullcontext(forward)

    record = Validation(config, source, World(0, 1, 0, torch.device("cpu"))).measure(Engine(), 3, 0)  # type: ignore[arg-type]
    assert record.sources.keys() == {"text", "cola", "sums"}
    assert record.loss == pytest.approx(record.sources["text"]["loss"])  # comparable with runs without tasks
    assert (record.bits_per_byte is not None) == (objective == "causal")
    batch = Validation(config, source, World(0, 1, 0, torch.device("cpu"))).splits["cola"].batch(0, 99)
    loss, count = forward(batch)
    assert record.sources["cola"]["loss"] == pytest.approx(float(loss / count), rel=1e-5)


def test_a_step_is_shown_with_its_tasks_and_the_card_counts_them(make_config: Any) -> None:
    config = make_config("causal")
    shown = show(config, 0, samples=8)
    assert sum(shown["mixture"].values()) == 8
    tasks = [one for one in shown["samples"] if one["origin"] != "text"]
    assert tasks and all(">>" in one["text"] and "jsonl:" in one["records"][0] for one in tasks)
    cola = next(one for one in tasks if one["origin"] == "cola")
    assert cola["text"].startswith("[[<s>]]cola sentence: cab ") and "[[<sep>]]" not in cola["text"]
    found = card(config)
    assert [one["name"] for one in found["tasks"]] == ["text", "cola", "sums"]
    assert sum(one["samples"] for one in found["mixture"]) == 8 * 40
    assert found["bound"] < 1 and f"to within {found['bound']:.3g} samples" in format_card(found)
    lines = check_mixed(prepare(config), config)  # type: ignore[arg-type]
    assert "form alpaca (instruction, output)" in lines[2] and lines[1].startswith("cola")


def test_a_tuned_run_is_not_shown_as_its_corpus(make_config: Any) -> None:
    config = make_config()
    task = config.data.tasks[min(config.data.tasks)].as_task("mine", 16, converses=False)
    with pytest.raises(UserError, match="a run of task=mine reads its records"):
        show(config.model_copy(update={"task": task}), 0)


def test_a_share_of_no_text_is_multi_task_learning_alone(make_config: Any) -> None:
    config = make_config("span_corruption", "data.mixing.text_share=0", "data.mixing.rate=equal")
    assert {name for name, _ in mixed(config).of(0, 50)} == {"cola", "sums"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["model=bert-mini", "objective=masked_lm"], "data.tasks: answers are written by decoder and encoder_decoder"),
        (["data.stages=[{tokens: 10000}, {}]"], "data.stages: the records of data.tasks are cut to one length"),
        (["+data.tasks.bad={source: swapped, train: x}"], "data.tasks.bad.source: given beside train"),
        (["+data.tasks.bad={}"], "data.tasks.bad.train: a task needs files"),
        (["+data.tasks.bad={train: x, options: {0: a}}"], "data.tasks.bad.input: state what is asked too"),
        (["+data.tasks.bad={train: x, form: alpca}"], "(did you mean 'alpaca'?)"),
        (["+data.tasks.bad={trian: x}"], "data.tasks.bad.trian: no such key (did you mean 'data.tasks.bad.train'?)"),
        (["+data.tasks.text={train: x}"], "data.tasks.text: the text is called text too"),
        (["data.mixing.text_share=0.5", "data.mixing.text_examples=9"], "data.mixing.text_share says already"),
        (["data.mixing.temperature=0"], "data.mixing.temperature: 0"),
        (["data.mixing.answer_length=9"], "data.mixing.answer_length: a decoder reads prompt and answer in"),
    ],
)
def test_what_cannot_be_mixed(make_config: Any, words: list[str], wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config("causal", *words)
    assert wanted in str(caught.value)


def test_mixing_without_tasks_is_no_key_that_is_read() -> None:
    with pytest.raises(UserError, match=r"data\.mixing\.limit: only a run with data.tasks reads it"):
        compose(["data.mixing.limit=5"])


def test_records_that_are_wrong_and_records_on_both_sides(make_config: Any, tmp_path: Path, tasks: Any) -> None:
    bad = write(tmp_path, "bad.jsonl", [{"inputs": "a", "targets": "b"}, {"inputs": "a"}])
    with pytest.raises(UserError, match=r"bad\.jsonl:2: no field 'targets'"):
        prepare(make_config("causal", f"+data.tasks.bad.train={bad}"))
    both = [f"data.tasks.sums.train={tasks['sums']}", f"+data.tasks.sums.held_out={tasks['sums']}"]
    with pytest.raises(UserError, match=r"sums\.jsonl:1 is the same record as .*sums\.jsonl:1, which is trained on"):
        prepare(make_config("causal", *both))
    odd = write(tmp_path, "odd.jsonl", [{"a": "b"}, {"a": "c"}])
    with pytest.raises(UserError, match="no field 'sentence'"):
        config = make_config("causal", f"+data.tasks.odd={{train: {odd}, input: '{{sentence}}', answer: a}}")
        MixedSamples(prepare(config), config)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["docstrings", "swapped"])
def test_tasks_of_the_runs_own_corpus(cache: Path, source: str, tmp_path: Path) -> None:
    """Made of the documents that the text is trained on, and held out with those."""
    for number in range(30):
        body = "\n".join(f"    c{k} = a * {k} + b" for k in range(6))
        (tmp_path / f"f{number}.py").write_text(
            f'def f{number}(a, b):\n    """Add {number}."""\n{body}\n    return a\n'
        )
    config = compose(
        [
            *("data=text", f"data.path={tmp_path}", f"run.cache={cache}", "data.sequence_length=96"),
            *("tokenizer.vocabulary=420", "data.held_out=0.2", f"+data.tasks.own.source={source}"),
        ]
    )
    assert len(mixed(config).tasks["own"]) > 2


def test_tasks_leave_the_hash_of_other_runs_alone(make_config: Any) -> None:
    """And have one of their own, whatever the order they are written in."""
    assert make_config().science_hash() != make_config("causal", "data.mixing.temperature=2").science_hash()
    config = make_config()
    turned = dict(reversed(config.data.tasks.items()))
    other = config.model_copy(update={"data": config.data.model_copy(update={"tasks": turned})})
    assert other.science_hash() == config.science_hash()
    batches = [mixed(one).batch(0, 8)["tokens"] for one in (config, other)]
    assert np.array_equal(*batches)


@pytest.mark.slow
def test_a_run_that_goes_on_in_two_ranks_is_the_run_that_was_never_stopped(
    isoflop: Any, tiny: list[str], tasks: dict[str, Path], tmp_path: Path
) -> None:
    words = [*tiny, "data.sequence_length=64", "optim.batch_size=6", f"+data.tasks.sums.train={tasks['sums']}"]
    words += ["model=t5-mini", "objective=span_corruption", "data.mixing.answer_length=40", "run.experiment=made"]
    whole = isoflop("train", *words, "run.id=whole")
    assert whole.returncode == 0, whole.stderr
    cut = isoflop("train", *words, "run.id=cut", "budget.steps=8")
    assert cut.returncode == 0, cut.stderr
    on = isoflop("train", "resume=runs/made/cut", "budget.steps=12", "launch.processes=2", "new_science=true")
    assert on.returncode == 0, on.stderr
    for run in ("whole", "cut"):
        assert (tmp_path / "runs/made" / run / "metrics.jsonl").is_file()
    found = [_records(tmp_path / "runs/made" / run) for run in ("whole", "cut")]
    assert found[0].keys() == found[1].keys() == set(range(1, 13))
    assert all(found[0][step]["sources"] == found[1][step]["sources"] for step in found[0])


def _records(run: Path) -> dict[int, dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {one["step"]: one for one in lines if one["kind"] == "step"}


@pytest.mark.parametrize("objective", [*FAMILIES, "fim", "ul2", "bart", "mass"])
def test_rows_are_as_wide_as_the_books_count_them(make_config: Any, objective: str) -> None:
    """With every objective of the two families: what a model reads is what memory and FLOPs are computed of."""
    decoder = objective in ("causal", "prefix_lm", "fim")
    base = [] if decoder else ["model=t5-mini", "data.mixing.answer_length=80"]
    noises = ["objective.noises=[text_infilling]"] if objective == "bart" else []
    config = make_config("causal", *base, f"objective={objective}", *noises)
    samples, wanted = mixed(config), lengths(config)
    drawn, batch = {name for name, _ in samples.of(0, 24)}, samples.batch(0, 24)
    assert drawn == {"text", "cola", "sums"}
    widths = {name: array.shape[1] for name, array in batch.items() if array.ndim == 2}
    source = {name for name in widths if name.startswith("source_")}
    assert {widths[name] for name in source} == (set() if decoder else {wanted.source})
    assert {widths[name] for name in widths.keys() - source} == {wanted.source if decoder else wanted.target}
    assert decoder or wanted.target >= 80
