"""Batches and encoding against their peers: medians of alternating rounds in one process, page cache warm.

    python scripts/bench/data.py [--rows 16] [--json | --write]            # about a minute

--write puts the figures into docs/benchmarks/data.md.

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.config import Config
from trainer.config.host import cores
from trainer.data import Prepared, Samples, SplitInfo, Tokenizer, prepare
from trainer.data.corpus import parts, sources
from trainer.data.shards import MANIFEST, open_prepared

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "benchmarks" / "data.md"
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


def sparse(root: Path, starts: np.ndarray, tokens: int) -> Prepared:
    """A corpus of so many tokens, all of them zero, whose documents begin at these places."""
    real = prepare(Config())
    (root / "tokenizer.model").write_bytes(real.tokenizer_file.read_bytes())
    with (root / "train-00000.tokens").open("wb") as file:
        file.truncate(2 * tokens)
    np.save(root / "train.documents.npy", starts)
    for name in ("held_out-00000.tokens", "held_out.documents.npy"):
        (root / name).write_bytes((real.folder / name).read_bytes())
    manifest = json.loads((real.folder / MANIFEST).read_text())
    train = manifest["splits"]["train"]
    train["shards"] = ["train-00000.tokens"]
    train["info"] = vars(SplitInfo(len(starts), tokens, 4 * tokens, 3.0))
    for entry in manifest["files"]:
        entry["bytes"] = (root / entry["file"]).stat().st_size
    (root / MANIFEST).write_text(json.dumps(manifest))
    return open_prepared(root)


def ten_billion_tokens() -> dict[str, float]:
    """Seconds and resident bytes to open a sparse corpus of ten billion tokens and draw one batch."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = sparse(Path(folder), np.arange(0, 10**10, 10_000_000), 10**10)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        samples = Samples(prepared, config_of("decoder", name="causal"), "train")
        samples.batch(10**9, 10**9 + 16)
        spent = time.perf_counter() - begun
        return {"seconds": spent, "bytes": 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def many_documents() -> dict[str, float]:
    """Seconds to open a sparse corpus of 300,000 documents of 500 to 5000 tokens for masked language modelling: its
    packing computed, and its packing kept from before."""
    starts = np.cumsum(np.random.default_rng(0).integers(500, 5000, 300_000))
    with tempfile.TemporaryDirectory() as folder:
        prepared = sparse(Path(folder), starts - starts[0], int(starts[-1]))
        seconds = []
        for _ in range(2):
            begun = time.thread_time()
            Samples(prepared, config_of("encoder", name="masked_lm"), "train")
            seconds.append(time.thread_time() - begun)
    return {"computed": seconds[0], "kept": seconds[1]}


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


def table(compared: list[dict[str, Any]]) -> str:
    """In Markdown."""
    lines = ["| what | ours | against | theirs | ratio | wanted |", "|---|---|---|---|---|---|"]
    for row in compared:
        ours, peer = (f"{row[whose] / 1e6:.1f} M{row['unit']}" for whose in ("ours", "peer"))
        lines.append(
            f"| {row['what']} | {ours} | {row['against']} | {peer} | **{row['ratio']:.2f}** | {row['wanted']:.2f} |"
        )
    return "\n".join(lines)


def where(rows: int) -> str:
    """What the figures depend on: command, commit, versions, processor and how busy it was."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "torch", "sentencepiece"))
    processors = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    processor = next(processors, ": ").partition(": ")[2]
    return (
        f"`{' '.join(['scripts/bench/data.py', *sys.argv[1:]])}`, commit {commit.strip()}, {cores()} cores of an "
        f"{processor} at a load of {os.getloadavg()[0]:.1f},\nPython {sys.version.split()[0]}, {versions}. Sequence "
        f"{LENGTH}, {rows} rows a batch. Medians of {ROUNDS} rounds in which ours and the peer take\nturns; of batches "
        "the thread's own time counts."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=16, help="of a batch")
    parser.add_argument("--write", action="store_true", help=f"into {REPORT.relative_to(ROOT)}")
    options = parser.parse_args()
    rows = options.rows
    opened, many = ten_billion_tokens(), many_documents()
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
        found = {"rows": compared, "padding": unfilled, "ten_billion_tokens": opened, "many_documents": many}
        print(json.dumps(found, indent=1))
        return
    shares = ", ".join(f"{share:.1%} {packing}" for packing, share in unfilled.items())
    facts = [
        f"Padding of span corruption: {shares}.",
        f"10^10 tokens: opened and drawn from in {opened['seconds']:.3f} s and {opened['bytes'] / 1e6:.0f} MB.",
        f"300,000 documents: opened in {many['computed']:.2f} s, in {many['kept']:.2f} s once their packing is kept.",
    ]
    text = table(compared) + "\n\n" + "\n".join(facts) + "\n"
    print(text)
    if options.write:
        REPORT.write_text(f"# Batches and encoding\n\n{where(rows)}\n\n{text}")


if __name__ == "__main__":
    main()
