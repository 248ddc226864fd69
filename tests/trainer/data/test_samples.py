from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.data.loading import fixed
from trainer.config import Config
from trainer.data import Samples, StepLoader, check, prepare
from trainer.data.shards import TokenStream
from trainer.utils.errors import UserError


def stream_of(prepared, split) -> tuple[np.ndarray, np.ndarray]:
    """All tokens and, for each, the number of its document."""
    stream = TokenStream(prepared, split)
    tokens = np.zeros((1, len(stream)), np.int64)
    stream.read(np.array([0]), tokens)
    return tokens[0], np.searchsorted(stream.starts, np.arange(len(stream)), side="right")


def naive(tokens, documents, begin, length):
    """One causal sample, token by token."""
    sample = {"tokens": [], "targets": [], "segments": [], "positions": []}
    segment = position = 0
    for at in range(begin, begin + length):
        if at > begin and documents[at] != documents[at - 1]:
            segment, position = segment + 1, 0
        sample["tokens"].append(tokens[at])
        sample["segments"].append(segment)
        sample["positions"].append(position)
        sample["targets"].append(tokens[at + 1] if documents[at + 1] == documents[at] else -100)
        position += 1
    return sample


def test_samples_against_a_reading_token_by_token(config, prepared):
    samples = Samples(prepared, config, "train")
    tokens, documents = stream_of(prepared, "train")
    batch = samples.batch(0, len(samples))
    begins = samples.sample_range(0).chunker.parts[0].indices(0, len(samples)) * 32
    assert sorted(begins) == list(range(0, 32 * len(samples), 32))
    for row, begin in enumerate(begins.tolist()):
        for name, expected in naive(tokens, documents, begin, 32).items():
            assert batch[name][row].tolist() == expected, name
    assert {name: array.dtype.name for name, array in batch.items()} == {
        "tokens": "int64",
        "targets": "int64",
        "segments": "int32",
        "positions": "int64",
    }


def test_a_sample_does_not_depend_on_its_batch(config, prepared):
    samples = Samples(prepared, config, "train")
    n = len(samples)
    together = samples.batch(n - 5, n + 9)
    for row, number in enumerate(range(n - 5, n + 9)):
        for name, array in samples.batch(number, number + 1).items():
            assert np.array_equal(array[0], together[name][row])


def test_every_held_out_token_is_predicted_exactly_once(config, prepared):
    samples = Samples(prepared, config, "held_out")
    tokens, documents = stream_of(prepared, "held_out")
    batch = samples.batch(0, len(samples) + 3)
    predicted = batch["targets"][batch["targets"] != -100]
    inside = np.flatnonzero(documents[1:] == documents[:-1]) + 1
    assert np.array_equal(predicted, tokens[inside])
    assert np.array_equal(batch["tokens"][batch["segments"] >= 0], tokens[: 32 * len(samples)])
    padding = batch["segments"] == -1
    assert (batch["tokens"][padding] == prepared.pad).all() and (batch["targets"][padding] == -100).all()
    assert padding[len(samples) :].all() and not padding[: len(samples) - 1].any()


def test_samples_across_shards(folder, config, prepared, tmp_path, make_config, monkeypatch):
    monkeypatch.setattr("trainer.data.shards.SHARD_TOKENS", 37)
    shards = prepare(make_config(folder, tmp_path))
    for name, array in Samples(shards, config, "train").batch(0, 50).items():
        assert np.array_equal(array, Samples(prepared, config, "train").batch(0, 50)[name])


def test_a_corpus_shorter_than_one_sample(folder, tmp_path, make_config):
    config = make_config(folder, tmp_path, data={"sequence_length": 100_000})
    with pytest.raises(UserError, match=r"one sample needs 100,001; .*data.sequence_length=100000"):
        check(prepare(config), config)


# --- the loader ------------------------------------------------------------------------------------------------------


def real_rows(micro_batches):
    rows = {name: np.concatenate([batch[name] for batch in micro_batches]) for name in micro_batches[0]}
    real = (rows["segments"] != -1).any(axis=1)
    assert (rows["targets"][~real] == -100).all()
    return {name: array[real] for name, array in rows.items()}


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (1, 12), (2, 5), (3, 2), (8, 1), (8, 2), (5, 7)])
def test_ranks_and_micro_batches_only_divide_the_step(config, prepared, world, micro):
    samples = Samples(prepared, config, "train")
    loaders = [StepLoader(samples, **fixed(12, micro), rank=r, world_size=world) for r in range(world)]
    for step, shares in enumerate(zip(*(loader.steps(0, 3) for loader in loaders), strict=True)):
        assert {share.step for share in shares} == {step}
        assert len({len(share.micro_batches) for share in shares}) == 1
        assert {batch["tokens"].shape for share in shares for batch in share.micro_batches} == {(micro, 32)}
        rows = [real_rows(share.micro_batches) for share in shares]
        for name, expected in samples.batch(step * 12, step * 12 + 12).items():
            assert np.array_equal(np.concatenate([row[name] for row in rows]), expected), name


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_draws_the_same_batches(config, prepared, workers):
    samples = Samples(prepared, config, "train")
    loader = StepLoader(samples, **fixed(12, 5), rank=1, world_size=2)
    drawn = list(loader.steps(3, 20, workers))
    assert [batch.step for batch in drawn] == list(range(3, 20))
    for batch in drawn:
        for one, other in zip(batch.micro_batches, loader.step(batch.step), strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("seed", range(12))
def test_kills_and_resumes_at_random_read_exactly_the_prefix(config, prepared, seed):
    """Any world sizes, micro-batches, workers and batch sizes, through stages and sizes: none twice, none skipped."""
    rng = np.random.default_rng(seed)
    size, last = int(rng.integers(1, 20)), int(rng.integers(5, 60))
    stages = [{"tokens": 16 * size * int(rng.integers(1, 20)), "sequence_length": 16}, {"tokens": 1}]
    given = config.model_dump()
    given["data"] |= {"stages": stages}
    warmup = [
        {"size": small, "tokens": 16 * size * int(rng.integers(1, 6))} for small in (1, size // 2) if small < size
    ]
    warmup = warmup[:1] if size < 4 else warmup  # sizes rise
    optim = {"batch_size": size, "batch_warmup": warmup}
    staged = Config.model_validate({**given, "optim": optim, "budget": {"steps": 50}})
    samples = Samples(prepared, staged, "train")
    numbered = Numbered(samples)
    step, read = 0, []
    while step < last:
        world, micro, workers = int(rng.choice([1, 2, 3, 8])), int(rng.integers(1, 9)), int(rng.choice([0, 1, 3]))
        until = min(last, step + int(rng.integers(1, 15)))
        loaders = [
            StepLoader(
                numbered,
                curriculum=staged.curriculum,
                micro_batch=fixed(size, micro)["micro_batch"],
                rank=r,
                world_size=world,
            )
            for r in range(world)
        ]
        for shares in zip(*(loader.steps(step, last, workers) for loader in loaders), strict=True):
            read += [batch["number"][batch["real"]] for share in shares for batch in share.micro_batches]
            step += 1
            if step == until:
                break
    assert np.array_equal(np.concatenate(read), np.arange(staged.curriculum.samples(last)))


class Numbered:
    """Batches that say which samples they hold."""

    def __init__(self, samples: Samples) -> None:
        self.samples, self.pad = samples, samples.pad

    def batch(self, start: int, stop: int) -> dict[str, np.ndarray]:
        index = self.samples.window(start, stop).index
        return {"number": index, "real": np.ones(len(index), bool)}  # blanks are filled with zeros


def test_a_resume_on_another_world_size_reads_on_where_it_stopped(config, prepared):
    samples = Samples(prepared, config, "train")
    rng = np.random.default_rng(0)
    step, read = 0, []
    while step < 40:
        world, micro = int(rng.choice([1, 2, 3, 8])), int(rng.integers(1, 5))
        until = min(40, step + int(rng.integers(1, 9)))
        loaders = [StepLoader(samples, **fixed(16, micro), rank=r, world_size=world) for r in range(world)]
        for shares in zip(*(loader.steps(step, 40) for loader in loaders), strict=True):
            read += [real_rows(share.micro_batches)["tokens"] for share in shares]
            step += 1
            if step == until:
                break  # killed here
    assert np.array_equal(np.concatenate(read), samples.batch(0, 40 * 16)["tokens"])


def test_the_thread_ends_with_its_iterator(config, prepared):
    import threading

    steps = StepLoader(Samples(prepared, config, "train"), **fixed(4, 4), rank=0, world_size=1).steps(0, 10**9)
    assert next(steps).step == 0 and any(thread.name.startswith("data") for thread in threading.enumerate())
    steps.close()
    assert not any(thread.name.startswith("data") for thread in threading.enumerate())


def test_what_the_thread_raises_is_raised_where_it_is_read(config, prepared):
    samples = Samples(prepared, config, "train")
    draw = samples.batch
    samples.batch = lambda start, stop: draw(start, stop) if start < 8 else 1 // 0
    steps = StepLoader(samples, **fixed(4, 4), rank=0, world_size=1).steps(0, 10)
    assert [next(steps).step, next(steps).step] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(steps)


def test_a_window_read_as_one_text(config, prepared):
    joined = config.model_copy(update={"data": config.data.model_copy(update={"boundaries": False})})
    samples, tokens = Samples(prepared, joined, "train"), stream_of(prepared, "train")[0]
    batch = samples.batch(0, len(samples))
    begins = samples.sample_range(0).chunker.parts[0].indices(0, len(samples)) * 32
    assert np.array_equal(batch["tokens"], tokens[begins[:, None] + np.arange(32)])
    assert np.array_equal(batch["targets"], tokens[begins[:, None] + np.arange(1, 33)])
    assert not batch["segments"].any() and (batch["positions"] == np.arange(32)).all()
    held_out = Samples(prepared, joined, "held_out").batch(0, 50)  # always document by document
    for name, array in Samples(prepared, config, "held_out").batch(0, 50).items():
        assert np.array_equal(array, held_out[name])
