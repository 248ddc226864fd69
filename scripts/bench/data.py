"""Batches and encoding against their peers: medians of alternating rounds in one process, page cache warm.

    python scripts/bench/data.py [--rows 16] [--json]            # about a minute

Peers: a bare numpy gather from the memory map into int64; transformers' collator for masked language modelling, if it
is installed; Python loops over tokens for infilling and span corruption; sentencepiece's own threaded encoder.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.config import Config
from trainer.data import Prepared, Samples, SplitInfo, Tokenizer, prepare
from trainer.data.corpus import parts, sources
from trainer.data.shards import MANIFEST, open_prepared

LENGTH, ROUNDS = 1024, 7
# As the loop below: masks alone, no random tokens.
INFILLING = {"name": "bart", "noises": ("text_infilling",), "rate": 0.3, "random_share": 0.0}
KEYS = [f"{side}{key}" for side in ("source_", "") for key in ("tokens", "segments", "positions")] + ["targets"]


def rate(work: Callable[[int], int], clock: Callable[[], float], seconds: float = 0.25) -> float:
    """Tokens per second of work(number of the call) -> tokens."""
    begun = clock()
    tokens = calls = 0
    while (spent := clock() - begun) < seconds:
        tokens += work(calls)
        calls += 1
    return tokens / spent


def race(clock: Callable[[], float] = time.thread_time, **runners: Callable[[int], int]) -> dict[str, float]:
    """Median tokens per second of each, taking turns. The clock counts this thread's own time, or that on the wall."""
    found: dict[str, list[float]] = {name: [] for name in runners}
    for work in runners.values():
        work(0)
    for _ in range(ROUNDS):
        for name, work in runners.items():
            found[name].append(rate(work, clock))
    return {name: statistics.median(rates) for name, rates in found.items()}


def config_of(family: str, **objective: Any) -> Config:
    config = Config.model_validate({"objective": objective, "data": {"sequence_length": LENGTH}})
    return config.model_copy(update={"model": config.model.model_copy(update={"family": family})})


def batches(samples: Samples, rows: int) -> Callable[[int], int]:
    def work(call: int) -> int:
        samples.batch(call * rows, (call + 1) * rows)
        return rows * LENGTH

    return work


def bare_gather(prepared: Prepared, rows: int) -> Callable[[int], int]:
    """What nothing can beat by much: tokens and targets, int64, from random places of the memory map."""
    entry = prepared.manifest["splits"]["train"]
    tokens = np.memmap(prepared.folder / entry["shards"][0], entry["dtype"], "r")
    begins = np.random.default_rng(0).integers(0, len(tokens) - LENGTH - 1, (512, rows))
    columns = np.arange(LENGTH + 1)

    def work(call: int) -> int:
        window = tokens[begins[call % 512][:, None] + columns].astype(np.int64)
        np.ascontiguousarray(window[:, :-1]), np.ascontiguousarray(window[:, 1:])
        return rows * LENGTH

    return work


def torch_loader(prepared: Prepared, rows: int) -> Callable[[int], int]:
    """torch's DataLoader with two workers over the same windows."""
    import torch

    entry = prepared.manifest["splits"]["train"]
    file = prepared.folder / entry["shards"][0]

    class Windows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.tokens = np.memmap(file, entry["dtype"], "r")

        def __len__(self) -> int:
            return (len(self.tokens) - 1) // LENGTH

        def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor]:
            window = torch.from_numpy(self.tokens[at * LENGTH : (at + 1) * LENGTH + 1].astype(np.int64))
            return window[:-1], window[1:]

    loader = torch.utils.data.DataLoader(Windows(), rows, shuffle=True, num_workers=2, drop_last=True)
    state = {"iterator": iter(loader)}

    def work(call: int) -> int:
        try:
            next(state["iterator"])
        except StopIteration:
            state["iterator"] = iter(loader)
            next(state["iterator"])
        return rows * LENGTH

    return work


def transformers_collator(prepared: Prepared, rows: int) -> Callable[[int], int] | None:
    try:
        from tokenizers import Tokenizer as Fast
        from tokenizers.models import WordLevel
        from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast
    except ImportError:
        return None
    words = {f"t{k}": k for k in range(prepared.vocabulary)}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Fast(WordLevel(words, unk_token="t3")), pad_token="t0", mask_token="t4"
    )
    collate = DataCollatorForLanguageModeling(fast, mlm_probability=0.15)
    tokens = np.random.default_rng(0).integers(200, prepared.vocabulary, (rows, LENGTH)).tolist()
    examples = [{"input_ids": row} for row in tokens]

    def work(call: int) -> int:
        collate(examples)
        return rows * LENGTH

    return work


def poisson(mean: float, draw: random.Random) -> int:
    limit, count, product = math.exp(-mean), 0, draw.random()
    while product > limit:
        count, product = count + 1, product * draw.random()
    return count


def infilling_loop(tokens: list[int], draw: random.Random) -> tuple[list[int], list[int]]:
    """Text infilling, a token at a time: (source, targets)."""
    budget = math.ceil(0.3 * len(tokens))
    spans: list[int] = []
    while sum(spans) < budget:
        spans.append(poisson(3.0, draw))
    starts = dict(
        zip(draw.sample(range(len(tokens)), sum(span > 0 for span in spans)), filter(None, spans), strict=True)
    )
    source, left = [1], 0
    for at, token in enumerate(tokens):
        if left:
            left = max(left - 1, starts.get(at, 0) - 1)
        elif at in starts:
            source.append(4)
            left = starts[at] - 1
        else:
            source.append(token)
    for _ in range(spans.count(0)):
        source.insert(1 + draw.randrange(len(source)), 4)
    return [*source, 2], [*tokens, 2]


def segmentation(count: int, parts: int, draw: random.Random) -> list[int]:
    cuts = sorted(draw.sample(range(1, count), parts - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, count], strict=True)]


def span_loop(tokens: list[int], draw: random.Random) -> tuple[list[int], list[int]]:
    """Span corruption, a token at a time: (source, targets)."""
    noise = round(0.15 * len(tokens))
    spans = round(noise / 3)
    source, targets, at = [], [], 0
    kept, hidden = segmentation(len(tokens) - noise, spans, draw), segmentation(noise, spans, draw)
    for number, (before, inside) in enumerate(zip(kept, hidden, strict=True)):
        for _ in range(before):
            source.append(tokens[at])
            at += 1
        source.append(13 + number)
        targets.append(13 + number)
        for _ in range(inside):
            targets.append(tokens[at])
            at += 1
    return [*source, 2], [*targets, 2]


def looped(
    prepared: Prepared,
    rows: int,
    length: int,
    width: int,
    corrupt: Callable[[list[int], random.Random], tuple[list[int], list[int]]],
) -> Callable[[int], int]:
    """The whole batch as such loops make it: tokens as lists, examples, padding, teacher forcing, arrays."""
    entry = prepared.manifest["splits"]["train"]
    tokens = np.memmap(prepared.folder / entry["shards"][0], entry["dtype"], "r")
    begins = np.random.default_rng(0).integers(0, len(tokens) - length, (512, rows))

    def work(call: int) -> int:
        draw = random.Random(call)
        batch: dict[str, list[list[int]]] = {name: [] for name in KEYS}
        for begin in begins[call % 512].tolist():
            source, targets = corrupt(tokens[begin : begin + length].tolist(), draw)
            missing, short = LENGTH - len(source), width - len(targets)
            batch["source_tokens"].append(source + [0] * missing)
            batch["source_segments"].append([0] * len(source) + [-1] * missing)
            batch["source_positions"].append([*range(len(source))] + [0] * missing)
            batch["tokens"].append([1, *targets[:-1]] + [0] * short)
            batch["targets"].append(targets + [-100] * short)
            batch["segments"].append([0] * len(targets) + [-1] * short)
            batch["positions"].append([*range(len(targets))] + [0] * short)
        for name, lists in batch.items():
            np.array(lists, np.int32 if "segments" in name else np.int64)
        return rows * LENGTH

    return work


def encoding(prepared: Prepared) -> dict[str, float]:
    """Bytes per second of our encoder and of sentencepiece's own, both with all threads."""
    config = Config()
    texts = [part.text for _, part in parts(config.data, sources(config.data))][:200]
    size = sum(len(text.encode()) for text in texts)
    ours = Tokenizer(prepared.tokenizer_file)
    bare = sentencepiece.SentencePieceProcessor(model_file=str(prepared.tokenizer_file))
    threads = len(os.sched_getaffinity(0))

    def own(call: int) -> int:
        ours.encode_all(texts, threads)
        return size

    def peer(call: int) -> int:
        bare.encode(texts, num_threads=threads)
        return size

    return race(time.perf_counter, ours=own, peer=peer)


def ten_billion_tokens() -> dict[str, float]:
    """Seconds and resident bytes to open a sparse corpus of ten billion tokens and draw one batch."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        real = prepare(Config())
        (root / "tokenizer.model").write_bytes(real.tokenizer_file.read_bytes())
        tokens = 10**10
        with (root / "train-00000.tokens").open("wb") as file:
            file.truncate(2 * tokens)
        np.save(root / "train.documents.npy", np.arange(0, tokens, 10_000_000))
        for name in ("held_out-00000.tokens", "held_out.documents.npy"):
            (root / name).write_bytes((real.folder / name).read_bytes())
        manifest = json.loads((real.folder / MANIFEST).read_text())
        train = manifest["splits"]["train"]
        train["shards"] = ["train-00000.tokens"]
        train["info"] = vars(SplitInfo(1000, tokens, 4 * tokens, 3.0))
        for entry in manifest["files"]:
            entry["bytes"] = (root / entry["file"]).stat().st_size
        (root / MANIFEST).write_text(json.dumps(manifest))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        samples = Samples(open_prepared(root), config_of("decoder", name="causal"), "train")
        samples.batch(10**9, 10**9 + 16)
        spent = time.perf_counter() - begun
        return {"seconds": spent, "bytes": 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def padding(prepared: Prepared) -> dict[str, float]:
    """Share of the positions of an epoch's samples that are padding, span corruption, by data.packing."""
    found = {}
    for packing in ("padded", "packed", "best_fit"):
        config = config_of("encoder_decoder", name="span_corruption")
        config = config.model_copy(update={"data": config.data.model_copy(update={"packing": packing})})
        samples = Samples(prepared, config, "train")
        rows = [samples.batch(k, k + 16)["source_segments"] for k in range(0, len(samples), 16)]
        found[packing] = float(np.mean([(row < 0).mean() for row in rows]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=16, help="of a batch")
    options = parser.parse_args()
    rows = options.rows
    opened = ten_billion_tokens()
    prepared = prepare(Config())
    # 16 MB, freed at once: from now on glibc keeps what a batch frees, as in a process that has held a model. Else a
    # runner's speed depends on what the one before it left on the heap.
    np.ones(1 << 21)
    drawn = {
        name: Samples(prepared, config_of(family, **keys), "train")
        for name, family, keys in (
            ("causal", "decoder", {"name": "causal"}),
            ("masked_lm", "encoder", {"name": "masked_lm"}),
            ("bart", "encoder_decoder", INFILLING),
            ("span_corruption", "encoder_decoder", {"name": "span_corruption"}),
        )
    }
    compared: list[dict[str, Any]] = []

    def compare(what: str, against: str, wanted: float, found: dict[str, float], unit: str = "token/s") -> None:
        ratio = found["ours"] / found["peer"]
        compared.append({"what": what, "against": against, **found, "unit": unit, "ratio": ratio, "wanted": wanted})

    causal = batches(drawn["causal"], rows)
    compare("causal batches", "bare numpy gather", 1 / 1.3, race(ours=causal, peer=bare_gather(prepared, rows)))
    compare(
        "causal batches",
        "torch DataLoader, 2 workers",
        1.0,
        race(time.perf_counter, ours=causal, peer=torch_loader(prepared, rows)),
    )
    if collator := transformers_collator(prepared, rows):
        compare("masked LM", "transformers collator", 10, race(ours=batches(drawn["masked_lm"], rows), peer=collator))
    infill = race(ours=batches(drawn["bart"], rows), peer=looped(prepared, rows, 1022, 1024, infilling_loop))
    compare("text infilling", "Python loop over tokens", 10, infill)
    spans = race(ours=batches(drawn["span_corruption"], rows), peer=looped(prepared, rows, 1137, 229, span_loop))
    compare("span corruption", "Python loop over tokens", 10, spans)
    compare("encoding", "sentencepiece, threads", 0.95, encoding(prepared), "byte/s")

    unfilled = padding(prepared)
    if options.json:
        print(json.dumps({"rows": compared, "padding": unfilled, "ten_billion_tokens": opened}, indent=1))
        return
    print(f"sequence {LENGTH}, {rows} rows a batch, median of {ROUNDS} rounds")
    for row in compared:
        print(
            f"{row['what']:<16} {row['ours'] / 1e6:8.1f} M{row['unit']:<8} {row['ratio']:6.2f} of "
            f"{row['against']} at {row['peer'] / 1e6:.1f} (wanted {row['wanted']:.2f})"
        )
    shares = ", ".join(f"{share:.1%} {packing}" for packing, share in unfilled.items())
    print(f"padding          {shares}")
    print(f"10^10 tokens     opened and drawn in {opened['seconds']:.3f} s, {opened['bytes'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
